use crate::{
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason, Severity},
    plan::Plan,
    size::Bytes,
};
use surus_pg::host::{
    self,
    state::{self, Mount},
};

pub static CHECK: Check = Check {
    id: "host.kernel",
    title: "the operating system is about to fail the server",
    inspects: "mount and recorded errors of the data directory's filesystem, open file limits, RemoveIPC of systemd-logind, /dev/shm",
    why: "A filesystem with errors loses data. Limits that are too low, or a logind that removes shared memory, make the server or \
          its parallel queries fail at a moment that nobody chose.",
    remedy: "Repair the filesystem from a backup's safety; raise the limit; set RemoveIPC=no or run the server under a system account.",
    source: "PostgreSQL documentation, Managing Kernel Resources; Docker's 64 MB of /dev/shm",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings, Need::Host],
    thresholds: &[
        Threshold::warn_below("shared_memory", "bytes", 67_108_864.0),
        Threshold::above("files", "%", 80.0, 95.0),
    ],
    look: Look::Custom(look),
};

/// What was read of the system; absent where it does not tell.
#[derive(Debug, Clone, Default)]
struct System {
    mount: Option<Mount>,
    filesystem_errors: Option<u64>,
    open_files: Option<u64>,
    system_files: Option<(u64, u64)>,
    removes_ipc: Option<bool>,
    owner_uid: Option<u32>,
    shared_memory_bytes: Option<u64>,
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let data = scene.data_directory()?;
        let mount = state::mount_of(&data).map_err(|error| Reason::Host(format!("{}: {error}", data.display())))?;
        let postmaster = access.session.backend_pid().and_then(state::parent_of);
        let system = System {
            filesystem_errors: state::filesystem_errors(&mount),
            mount: Some(mount),
            open_files: postmaster.and_then(state::open_file_limit),
            system_files: state::system_files(),
            removes_ipc: state::removes_ipc(),
            owner_uid: state::file_mode(&data).ok().map(|mode| mode.uid),
            shared_memory_bytes: host::room(std::path::Path::new("/dev/shm")).map(|room| room.total_bytes),
        };
        judge(scene, &system)
    })
}

fn judge(scene: &Scene<'_>, system: &System) -> Judged {
    let mut findings = filesystem(system);
    let wanted = scene.number("max_files_per_process")?;
    findings.extend(system.open_files.and_then(|limit| few_files(limit, wanted)));
    if let Some((used, most)) = system.system_files {
        let percent = 100.0 * used as f64 / most.max(1) as f64;
        findings.extend(scene.grade("files", percent).map(|severity| machine_files(severity, used, most)));
    }
    findings.extend(removed_memory(system));
    let posix = scene.setting("dynamic_shared_memory_type")?.value == "posix";
    if let Some(bytes) = system.shared_memory_bytes.filter(|_| posix)
        && let Some(severity) = scene.grade("shared_memory", bytes as f64)
    {
        findings.push(small_shared_memory(severity, bytes));
    }
    Ok(Verdict::of(findings))
}

fn filesystem(system: &System) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(mount) = &system.mount else { return findings };
    let point = mount.point.as_str();
    if mount.read_only {
        findings.push(
            Finding::crit("read-only", format!("the filesystem of the data directory is mounted read-only ({point})"))
                .detail("The kernel does that after an error of the disk; every write of the server fails.")
                .saw("mount", point)
                .saw("device", mount.source.as_str())
                .fix(Plan::advice("read dmesg, stop the server, save a copy, then check the filesystem (fsck) before mounting it again")),
        );
    }
    if let Some(errors) = system.filesystem_errors.filter(|errors| *errors > 0) {
        findings.push(
            Finding::crit("errors", format!("the filesystem of the data directory has recorded {errors} errors ({point})"))
                .detail("Files on it may be damaged already.")
                .measured("errors", errors, "errors")
                .saw("device", mount.source.as_str())
                .fix(Plan::advice("verify that the newest backup restores, then stop the server and run fsck; look at dmesg and smartctl -a")),
        );
    }
    findings
}

/// Each process of the server keeps max_files_per_process files open, if the system lets it.
fn few_files(limit: u64, wanted: f64) -> Option<Finding> {
    ((limit as f64) < wanted).then(|| {
        Finding::warn(
            "open files",
            format!("each process of the server may open only {limit} files instead of {wanted:.0}"),
        )
        .detail("With many tables files are closed and opened again all the time; extensions may fail.")
        .measured("limit", limit, "files")
        .measured("max_files_per_process", wanted, "files")
        .fix(Plan::advice(
            "LimitNOFILE=65536 in the systemd unit (or ulimit -n before the start), then restart the server",
        ))
    })
}

fn machine_files(severity: Severity, used: u64, most: u64) -> Finding {
    Finding::new(
        severity,
        "files of the machine",
        format!("{used} of {most} files that the machine may have open are open"),
    )
    .detail("At the limit no process can open a file, the server's not either.")
    .measured("open", used, "files")
    .measured("limit", most, "files")
    .fix(Plan::advice("sysctl fs.file-max to a higher value, and lower max_connections or max_files_per_process"))
}

/// Accounts below 1000 are system accounts, which logind spares.
fn removed_memory(system: &System) -> Option<Finding> {
    let owner = system.owner_uid.filter(|uid| *uid >= 1000)?;
    (system.removes_ipc == Some(true)).then(|| {
        Finding::warn("RemoveIPC", "logging out may take the server's shared memory away")
            .detail("The server runs under an ordinary account; systemd-logind removes such an account's shared memory when its last login ends.")
            .saw("RemoveIPC", "yes")
            .saw("uid of the server", owner)
            .fix(Plan::advice("RemoveIPC=no in /etc/systemd/logind.conf, then systemctl restart systemd-logind"))
    })
}

fn small_shared_memory(severity: Severity, bytes: u64) -> Finding {
    Finding::new(severity, "/dev/shm", format!("/dev/shm holds only {}", Bytes(bytes)))
        .detail("Parallel queries and parallel index builds keep their shared memory there and fail with \"could not resize shared memory segment\".")
        .measured("size", bytes, "bytes")
        .fix(Plan::advice("docker run --shm-size=1g, an emptyDir of medium Memory in Kubernetes, or a larger tmpfs on /dev/shm"))
}

#[cfg(test)]
mod tests {
    use super::{CHECK, System, few_files, filesystem, removed_memory};
    use crate::testing::*;
    use surus_pg::host::state::Mount;

    check_tests!(CHECK);

    #[test]
    fn sees_limits_of_the_running_server() {
        seeded(&CHECK, |on| {
            on.limit("shared_memory", 1e18);
            assert!(on.findings().iter().any(|f| f.key == "host.kernel:/dev/shm"));
            on.configure(&[("max_files_per_process", "2000000000")]);
            let found = on.findings();
            assert!(found.iter().any(|f| f.key == "host.kernel:open files"), "{found:?}");
        });
    }

    /// Broken filesystems and other accounts are played by values.
    #[test]
    fn judges_filesystems_and_accounts() {
        let mount = Mount {
            device: 1,
            point: "/data".into(),
            source: "/dev/sda1".into(),
            kind: "ext4".into(),
            read_only: true,
        };
        let system = System { mount: Some(mount), filesystem_errors: Some(3), ..System::default() };
        assert_eq!(filesystem(&system).iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), ["read-only", "errors"]);
        let account = |owner, removes| System { owner_uid: Some(owner), removes_ipc: removes, ..System::default() };
        assert!(removed_memory(&account(1000, Some(true))).is_some());
        assert!(removed_memory(&account(101, Some(true))).is_none());
        assert!(
            removed_memory(&account(1000, Some(false))).is_none() && removed_memory(&account(1000, None)).is_none()
        );
        assert!(few_files(1024, 1000.0).is_none() && few_files(256, 1000.0).is_some());
    }
}
