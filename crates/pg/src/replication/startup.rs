//! From an open stream to a server that waits for a command: the startup message and who we are.
//!
//! Source: PostgreSQL documentation, 53.2.1 "Start-up", 53.3 "SASL Authentication", 53.4 "Streaming Replication
//! Protocol".

use super::frame::{Frames, Parts, message};
use crate::connect::{
    refusal::{Said, StartupError},
    settings::ChannelBinding,
};
use postgres_protocol::authentication::{
    md5_hash,
    sasl::{self, ScramSha256},
};
use std::collections::BTreeMap;
use surus_core::secret::Secret;

/// Protocol 3.0.
const PROTOCOL: u32 = 3 << 16;

/// Who we are.
pub(crate) struct Startup<'a> {
    pub user: &'a str,
    pub application_name: &'a str,
    pub options: Option<&'a str>,
    pub password: Option<&'a Secret>,
    pub binding: ChannelBinding,
}

impl Startup<'_> {
    /// Asks for a connection for physical replication; gives what the server says of itself.
    pub(crate) async fn run(&self, frames: &mut Frames) -> Result<BTreeMap<String, String>, StartupError> {
        frames.send(&self.first_message()).await?;
        self.show_who(frames).await?;
        let mut parameters = BTreeMap::new();
        loop {
            let frame = frames.next().await?;
            let mut parts = Parts(frames.body(&frame));
            match frame.tag {
                b'S' => drop(parameters.insert(parts.text()?, parts.text()?)),
                b'E' => return Err(said(parts.0)),
                // Key of the backend, notices, the newest protocol that the server speaks.
                b'K' | b'N' | b'v' => {}
                b'Z' => {
                    frames.let_in();
                    return Ok(parameters);
                }
                _ => return Err(StartupError::Unexpected),
            }
        }
    }

    fn first_message(&self) -> Vec<u8> {
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        let options = self.options.map(|options| ("options", options));
        let parameters = [
            ("user", self.user),
            // As libpq's programs: with this name pg_hba.conf and password files know the connection.
            ("database", "replication"),
            ("replication", "true"),
            ("application_name", self.application_name),
            ("client_encoding", "UTF8"),
        ];
        for (name, value) in parameters.into_iter().chain(options) {
            for text in [name, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), body.as_slice()].concat()
    }

    async fn show_who(&self, frames: &mut Frames) -> Result<(), StartupError> {
        let (request, rest) = authentication(frames).await?;
        match request {
            0 => return self.unbound(),
            3 => {
                self.unbound()?;
                self.send_password(frames, self.password()?).await?;
            }
            5 => {
                self.unbound()?;
                let salt = rest.as_slice().try_into().map_err(|_| StartupError::Unexpected)?;
                let hash = md5_hash(self.user.as_bytes(), self.password()?.as_bytes(), salt);
                self.send_password(frames, &hash).await?;
            }
            10 => self.scram(frames, &rest).await?,
            _ => return Err(StartupError::Method),
        }
        match authentication(frames).await? {
            (0, _) => Ok(()),
            _ => Err(StartupError::Unexpected),
        }
    }

    fn password(&self) -> Result<&str, StartupError> {
        self.password.map(Secret::reveal).ok_or(StartupError::PasswordMissing)
    }

    /// May we be let in without channel binding?
    fn unbound(&self) -> Result<(), StartupError> {
        if self.binding == ChannelBinding::Require { Err(StartupError::NoBinding) } else { Ok(()) }
    }

    async fn send_password(&self, frames: &mut Frames, password: &str) -> Result<(), StartupError> {
        Ok(frames.send(&message(b'p', &[password.as_bytes(), &[0]].concat())).await?)
    }

    async fn scram(&self, frames: &mut Frames, mechanisms: &[u8]) -> Result<(), StartupError> {
        let offers = |name: &str| mechanisms.split(|byte| *byte == 0).any(|offered| offered == name.as_bytes());
        let hash = frames.end_point().filter(|_| self.binding != ChannelBinding::Disable);
        let plus = offers(sasl::SCRAM_SHA_256_PLUS);
        let (binding, mechanism) = match hash {
            Some(hash) if plus => (sasl::ChannelBinding::tls_server_end_point(hash.to_vec()), sasl::SCRAM_SHA_256_PLUS),
            Some(_) => (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
            None => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
        };
        if !plus && !offers(sasl::SCRAM_SHA_256) {
            return Err(StartupError::Method);
        }
        if mechanism == sasl::SCRAM_SHA_256 {
            self.unbound()?;
        }
        let impostor = |error: std::io::Error| StartupError::Impostor(error.to_string());
        let mut scram = ScramSha256::new(self.password()?.as_bytes(), binding);
        let first = scram.message();
        let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
        frames.send(&message(b'p', &[mechanism.as_bytes(), &[0], &length, first].concat())).await?;
        let (request, challenge) = authentication(frames).await?;
        if request != 11 {
            return Err(StartupError::Unexpected);
        }
        scram.update(&challenge).map_err(impostor)?;
        frames.send(&message(b'p', scram.message())).await?;
        let (request, proof) = authentication(frames).await?;
        if request != 12 {
            return Err(StartupError::Unexpected);
        }
        scram.finish(&proof).map_err(impostor)
    }
}

/// The server's next word on who we are: a number and what belongs to it.
async fn authentication(frames: &mut Frames) -> Result<(i32, Vec<u8>), StartupError> {
    loop {
        let frame = frames.next().await?;
        let mut parts = Parts(frames.body(&frame));
        match frame.tag {
            b'R' => return Ok((parts.i32()?, parts.0.to_vec())),
            b'E' => return Err(said(parts.0)),
            b'N' | b'v' => {}
            _ => return Err(StartupError::Unexpected),
        }
    }
}

fn said(body: &[u8]) -> StartupError {
    StartupError::Server(Box::new(Said::parse(body)))
}
