//! A bucket of an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! The only module that names the crate `object_store`. An object is one PUT with "only if there is none", so that it
//! is there whole or not at all; nothing is uploaded in parts. Retrying is done here and not below, because only here
//! it is known whether a request whose answer was lost may have been carried out.

use super::{
    address::{BucketAddress, Service},
    answer::{Answer, Failed, judged},
    place::{Created, Entry, Place, PlaceError, is_name},
};
use crate::error::{BackupError, Result};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, PutMode, PutOptions, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
    path::Path,
};
use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};
use surus_core::{code, secret::Secret};
use tokio::runtime::Runtime;

/// The largest object: what S3 takes in one PUT. The largest that is written are WAL segments of 1 GiB.
const LARGEST: usize = 5 << 30;
/// Bytes a second below which a PUT is taken for one that hangs.
const SLOWEST: u64 = 256 << 10;

/// What proves to the service who is asking. What is not here comes from the environment, as with the provider's own
/// programs (`AWS_…`, `GOOGLE_…`, `AZURE_…`), and inside the provider's machines from their metadata service.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// S3's access key id, Azure's storage account.
    pub access_key: Option<Secret>,
    /// S3's secret access key, Azure's account key, the JSON of a Google service account.
    pub secret_key: Option<Secret>,
    /// S3's session token.
    pub session_token: Option<Secret>,
}

/// How long is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Requests for one thing, at most.
    pub attempts: u32,
    /// Before the second one; doubled each time.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// No byte for this long is as good as a connection that broke.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 10,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            silence: Duration::from_secs(60),
        }
    }
}

/// A folder of a bucket.
pub struct BucketPlace {
    bucket: Arc<Bucket>,
}

struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Without `/` at its ends.
    folder: String,
    /// For people.
    address: String,
    patience: Patience,
}

impl fmt::Debug for BucketPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketPlace({})", self.bucket.address)
    }
}

impl BucketPlace {
    /// The bucket is not asked yet.
    ///
    /// # Errors
    /// When the address or the credentials cannot be used.
    pub fn new(address: &BucketAddress, credentials: &Credentials, patience: Patience) -> Result<Self> {
        // Whoever was first has chosen; there is only one provider in this program.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = store(address, credentials)?;
        let (folder, address) = (address.folder.clone(), address.to_string());
        Ok(Self { bucket: Arc::new(Bucket { store, folder, address, patience }) })
    }

    /// Runs a request on the runtime of this module and waits for it: also right on a thread that runs another runtime.
    fn wait<T, W>(&self, doing: &'static str, name: &str, work: impl FnOnce(Arc<Bucket>) -> W) -> Result<T, PlaceError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Failed>> + Send + 'static,
    {
        let (send, answer) = mpsc::sync_channel(1);
        let done = match runtime() {
            Ok(runtime) => {
                let work = work(self.bucket.clone());
                runtime.spawn(async move { drop(send.send(work.await)) });
                answer.recv().unwrap_or_else(|_| Err(Failed::broken("the request ended without a result")))
            }
            Err(error) => Err(Failed::broken(format!("its threads did not start: {error}"))),
        };
        done.map_err(|failed| self.trouble(doing, name, failed))
    }

    fn trouble(&self, doing: &'static str, name: &str, failed: Failed) -> PlaceError {
        let (place, problem) = (self.bucket.address.clone(), failed.text);
        PlaceError { trouble: failed.answer.trouble(), doing, name: name.to_owned(), place, problem }
    }

    fn path(&self, doing: &'static str, name: &str) -> Result<Path, PlaceError> {
        let odd = || self.trouble(doing, name, Failed::broken("that cannot be the name of an object"));
        if !is_name(name) {
            return Err(odd());
        }
        self.bucket.path(name).map_err(|_| odd())
    }
}

/// Two threads for all buckets of the process. It is never dropped: that would not be allowed everywhere.
fn runtime() -> Result<&'static Runtime, &'static io::Error> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let build = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("surus-bucket").enable_all().build()
    };
    RUNTIME.get_or_init(build).as_ref()
}

impl Place for BucketPlace {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        let path = self.path("create", name)?;
        if body.len() > LARGEST {
            let text = format!("it has {} bytes, and a bucket takes at most {LARGEST} at once", body.len());
            return Err(self.trouble("create", name, Failed::broken(text)));
        }
        let body = Bytes::copy_from_slice(body);
        self.wait("create", name, |bucket| async move { bucket.create(path, body).await })
    }

    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        let path = self.path("write", name)?;
        let body = Bytes::copy_from_slice(body);
        self.wait("write", name, |bucket| async move { bucket.replace(path, body).await })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let path = self.path("read", name)?;
        self.wait("read", name, |bucket| async move { bucket.read(path, None).await })
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        let path = self.path("read", name)?;
        // There is no request for no bytes; one byte tells as well whether the object is there.
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let wanted = range.start..range.end.max(range.start.saturating_add(1));
        let read = self.wait("read", name, |bucket| async move { bucket.read(path, Some(wanted)).await })?;
        Ok(read.map(|mut body| {
            body.truncate(length);
            body
        }))
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        self.list_from(folder, None)
    }

    fn list_after(&self, folder: &str, after: &str) -> Result<Vec<Entry>, PlaceError> {
        let after = self.path("list", after)?;
        self.list_from(folder, Some(after))
    }

    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        let paths: Vec<_> = names.iter().map(|name| self.path("delete", name)).collect::<Result<_, _>>()?;
        let Some(first) = names.first() else { return Ok(()) };
        self.wait("delete", first, |bucket| async move { bucket.delete(paths).await })
    }

    fn address(&self) -> String {
        self.bucket.address.clone()
    }
}

impl BucketPlace {
    fn list_from(&self, folder: &str, after: Option<Path>) -> Result<Vec<Entry>, PlaceError> {
        let inside = folder.trim_end_matches('/');
        let path = match (self.bucket.folder.is_empty() && inside.is_empty(), inside.is_empty()) {
            (true, _) => None,
            (_, true) => Path::parse(&self.bucket.folder).ok(),
            _ => Some(self.path("list", inside)?),
        };
        self.wait("list", folder, |bucket| async move { bucket.list(path, after).await })
    }
}

impl Bucket {
    fn path(&self, name: &str) -> Result<Path, object_store::path::Error> {
        match self.folder.is_empty() {
            true => Path::parse(name),
            false => Path::parse(format!("{}/{name}", self.folder)),
        }
    }

    fn tries(&self) -> Tries {
        Tries { patience: self.patience, done: 0, pause: self.patience.first_pause }
    }

    async fn create(&self, path: Path, body: Bytes) -> Result<Created, Failed> {
        let mut tries = self.tries();
        // Was there a request that may have been carried out though its answer was lost?
        let mut unsure = false;
        loop {
            let failed = match self.put(&path, &body, PutMode::Create).await {
                Ok(()) => return Ok(Created::New),
                Err(failed) => failed,
            };
            match failed.answer {
                Answer::Exists if !unsure => return Ok(Created::AlreadyThere),
                // Ours, perhaps. None: somebody deleted it meanwhile.
                Answer::Exists => match self.read(path.clone(), None).await? {
                    Some(there) if there == body => return Ok(Created::New),
                    Some(_) => return Ok(Created::AlreadyThere),
                    None => tries.again(failed).await?,
                },
                answer => {
                    tries.again(failed).await?;
                    unsure |= matches!(answer, Answer::Again { carried_out: true });
                }
            }
        }
    }

    async fn replace(&self, path: Path, body: Bytes) -> Result<(), Failed> {
        let mut tries = self.tries();
        while let Err(failed) = self.put(&path, &body, PutMode::Overwrite).await {
            tries.again(failed).await?;
        }
        Ok(())
    }

    async fn put(&self, path: &Path, body: &Bytes, mode: PutMode) -> Result<(), Failed> {
        let time = self.patience.silence + Duration::from_secs(body.len() as u64 / SLOWEST);
        let put = self.store.put_opts(path, body.clone().into(), PutOptions::from(mode));
        within(time, put).await.map(drop)
    }

    async fn read(&self, path: Path, range: Option<Range<u64>>) -> Result<Option<Vec<u8>>, Failed> {
        let (mut tries, mut read) = (self.tries(), PartlyRead::default());
        while let Err(failed) = self.read_on(&path, range.as_ref(), &mut read).await {
            match failed.answer {
                Answer::Absent => return Ok(None),
                // The object ends before the range begins.
                Answer::OutOfRange if range.is_some() && read.body.is_empty() => return Ok(Some(Vec::new())),
                // It is no longer the object that the first part came from.
                Answer::Exists => {
                    read = PartlyRead::default();
                    tries.again(failed).await?;
                }
                _ => tries.again(failed).await?,
            }
        }
        Ok(Some(read.body))
    }

    /// Reads from where it broke off, as long as the object is still the same.
    async fn read_on(&self, path: &Path, range: Option<&Range<u64>>, read: &mut PartlyRead) -> Result<(), Failed> {
        if read.tag.is_none() {
            *read = PartlyRead::default();
        }
        let from = range.map_or(0, |range| range.start) + read.body.len() as u64;
        let wanted = match range {
            Some(range) => Some(GetRange::Bounded(from..range.end)),
            None if from > 0 => Some(GetRange::Offset(from)),
            None => None,
        };
        let options = GetOptions { range: wanted, if_match: read.tag.clone(), ..GetOptions::default() };
        let found = within(self.patience.silence, self.store.get_opts(path, options)).await?;
        let left = usize::try_from(found.range.end.saturating_sub(from)).unwrap_or(usize::MAX);
        let whole = read.body.len() + left;
        read.body.try_reserve_exact(left).map_err(|error| Failed::broken(error.to_string()))?;
        read.tag.clone_from(&found.meta.e_tag);
        let mut parts = found.into_stream();
        while read.body.len() < whole {
            match within(self.patience.silence, parts.try_next()).await? {
                Some(part) => read.body.extend_from_slice(&part),
                None => break,
            }
        }
        if read.body.len() == whole {
            return Ok(());
        }
        *read = PartlyRead::default();
        Err(Failed::again(format!("the answer has not the {whole} bytes that it announced")))
    }

    async fn list(&self, path: Option<Path>, after: Option<Path>) -> Result<Vec<Entry>, Failed> {
        let (mut tries, mut entries, mut last) = (self.tries(), Vec::new(), after);
        while let Err(failed) = self.list_on(path.as_ref(), &mut last, &mut entries).await {
            tries.again(failed).await?;
        }
        entries.sort_unstable();
        entries.dedup_by(|one, other| one.name == other.name);
        Ok(entries)
    }

    /// Lists on after the last name that came.
    async fn list_on(
        &self,
        path: Option<&Path>,
        last: &mut Option<Path>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Failed> {
        let mut listed = match last.clone() {
            Some(last) => self.store.list_with_offset(path, &last),
            None => self.store.list(path),
        };
        while let Some(about) = within(self.patience.silence, listed.try_next()).await? {
            let name = about.location.as_ref();
            let inside = match self.folder.is_empty() {
                true => Some(name),
                false => name.strip_prefix(&self.folder).and_then(|rest| rest.strip_prefix('/')),
            };
            if let Some(name) = inside {
                let modified_ms = about.last_modified.timestamp_millis();
                entries.push(Entry { name: name.to_owned(), size: about.size, modified_ms });
            }
            *last = Some(about.location);
        }
        Ok(())
    }

    async fn delete(&self, paths: Vec<Path>) -> Result<(), Failed> {
        let mut tries = self.tries();
        while let Err(failed) = self.delete_all(paths.clone()).await {
            tries.again(failed).await?;
        }
        Ok(())
    }

    async fn delete_all(&self, paths: Vec<Path>) -> Result<(), Failed> {
        let names = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.store.delete_stream(names);
        loop {
            match within(self.patience.silence, deleted.try_next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(failed) if failed.answer == Answer::Absent => {}
                Err(failed) => return Err(failed),
            }
        }
    }
}

/// What came of an object before the connection broke.
#[derive(Default)]
struct PartlyRead {
    body: Vec<u8>,
    /// Names the object's content; without it nothing is added to what came before.
    tag: Option<String>,
}

/// Counts attempts and waits between them.
struct Tries {
    patience: Patience,
    done: u32,
    pause: Duration,
}

impl Tries {
    /// Waits before the next attempt, when one may help and there are any left.
    async fn again(&mut self, failed: Failed) -> Result<(), Failed> {
        self.done += 1;
        if !failed.answer.may_change() || self.done >= self.patience.attempts {
            return Err(failed.after(self.done));
        }
        // Between half and all of it, so that many who were refused together do not come back together.
        let [random] = super::container::random::<1>();
        tokio::time::sleep(self.pause.mul_f64(0.5 + f64::from(random) / 512.0)).await;
        self.pause = (self.pause * 2).min(self.patience.longest_pause);
        Ok(())
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = object_store::Result<T>>) -> Result<T, Failed> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done.map_err(|error| judged(&error)),
        Err(_) => Err(Failed::again(format!("no answer within {} s", time.as_secs()))),
    }
}

fn store(address: &BucketAddress, credentials: &Credentials) -> Result<Arc<dyn ObjectStore>> {
    // Time is limited by what moves, not as a whole; see `within`.
    let options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(10))
        .with_allow_http(address.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")));
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let built = match address.service {
        Service::S3 => s3(address, credentials, options, retry)?,
        Service::Google => google(address, credentials, options, retry),
        Service::Azure => azure(address, credentials, options, retry),
    };
    built.map_err(|error| {
        let text = format!("{address} cannot be used: {}", judged(&error).text);
        BackupError::refused(code::REPO_ADDRESS, text)
    })
}

type Built = object_store::Result<Arc<dyn ObjectStore>>;

fn s3(address: &BucketAddress, credentials: &Credentials, options: ClientOptions, retry: RetryConfig) -> Result<Built> {
    let mut builder = AmazonS3Builder::from_env().with_client_options(options).with_retry(retry);
    // The provider's own programs take an endpoint from AWS_ENDPOINT_URL, too.
    let endpoint = address.endpoint.clone().or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let path_style = address.path_style.unwrap_or(endpoint.is_some());
    if let Some(endpoint) = &endpoint {
        let of_bucket = match endpoint.split_once("://") {
            Some((scheme, host)) if !path_style => format!("{scheme}://{}.{host}", address.bucket),
            _ => endpoint.clone(),
        };
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(of_bucket);
    }
    if let Some(region) = &address.region {
        builder = builder.with_region(region);
    }
    if let Some(key) = &credentials.access_key {
        builder = builder.with_access_key_id(key.reveal());
    }
    if let Some(key) = &credentials.secret_key {
        builder = builder.with_secret_access_key(key.reveal());
    }
    if let Some(token) = &credentials.session_token {
        builder = builder.with_token(token.reveal());
    }
    let keyless = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_none();
    // Only Amazon's own machines have a metadata service that could be asked instead.
    if keyless && endpoint.is_some() && std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").is_none() {
        let text = format!("nobody said who asks at {address}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        return Err(BackupError::refused(code::REPO_ADDRESS, text));
    }
    let built = builder
        .with_bucket_name(&address.bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_virtual_hosted_style_request(!path_style)
        .build();
    Ok(built.map(|store| Arc::new(store) as Arc<dyn ObjectStore>))
}

fn google(address: &BucketAddress, credentials: &Credentials, options: ClientOptions, retry: RetryConfig) -> Built {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_client_options(options).with_retry(retry);
    if let Some(key) = &credentials.secret_key {
        builder = builder.with_service_account_key(key.reveal());
    }
    if let Some(endpoint) = &address.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let store = builder.with_bucket_name(&address.bucket).build()?;
    Ok(Arc::new(store))
}

fn azure(address: &BucketAddress, credentials: &Credentials, options: ClientOptions, retry: RetryConfig) -> Built {
    let mut builder = MicrosoftAzureBuilder::from_env().with_client_options(options).with_retry(retry);
    if let Some(account) = &address.account {
        builder = builder.with_account(account);
    }
    if let Some(account) = &credentials.access_key {
        builder = builder.with_account(account.reveal());
    }
    if let Some(key) = &credentials.secret_key {
        builder = builder.with_access_key(key.reveal());
    }
    if let Some(endpoint) = &address.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let store = builder.with_container_name(&address.bucket).build()?;
    Ok(Arc::new(store))
}
