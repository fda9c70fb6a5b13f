//! The stable codes of every error that a user can meet: one table, which also generates the documentation page.

use std::fmt;

/// A class of exit status; the numbers are part of the command-line contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Findings or drift.
    Findings = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Something that must hold before does not.
    Precondition = 3,
    /// Something outside surus failed.
    Outside = 4,
    /// A bug in surus.
    Bug = 70,
}

/// An error's stable code with what it means and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `SURUS-` plus a letter for the area and three digits.
    pub id: &'static str,
    pub exit: Exit,
    /// One line: what went wrong.
    pub title: &'static str,
    /// What to run or change next.
    pub next: &'static str,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

macro_rules! codes {
    ($($name:ident $id:literal $exit:ident $title:literal $next:literal)*) => {
        $(#[doc = $title] pub const $name: Code = Code { id: $id, exit: Exit::$exit, title: $title, next: $next };)*
        /// Every code, in the order of the documentation page.
        pub const CODES: &[Code] = &[$($name),*];
    };
}

codes! {
    // C: connecting
    CONNECT_STRING "SURUS-C001" Usage "the connection string is not valid" "Write postgresql://user@host:port/database or host=… user=… dbname=…; examples: surus check --help"
    CONNECT_SERVICE "SURUS-C002" Usage "the service is not in the service file" "Check PGSERVICEFILE or ~/.pg_service.conf."
    CONNECT_RESOLVE "SURUS-C003" Outside "the host name cannot be resolved" "Check the spelling and the resolver: getent hosts <name>."
    CONNECT_REFUSED "SURUS-C004" Outside "nothing listens on that address and port" "Check port and listen_addresses; is the server running? pg_isready -h <host> -p <port>"
    CONNECT_TIMEOUT "SURUS-C005" Outside "the server did not answer in time" "A firewall that drops packets looks like this; check the route, or raise connect_timeout."
    CONNECT_SOCKET "SURUS-C006" Outside "the Unix socket is not there" "Check the directory (unix_socket_directories) and the port, or give host=localhost."
    CONNECT_PASSWORD "SURUS-C007" Outside "the server refused the password" "Check ~/.pgpass (mode 0600) or PGPASSWORD for this host, port, database and user."
    CONNECT_NO_PASSWORD "SURUS-C008" Usage "the server wants a password and none was given" "Put it into ~/.pgpass (mode 0600), PGPASSWORD or the service file."
    CONNECT_HBA "SURUS-C009" Outside "pg_hba.conf has no entry that admits this connection" "Add an entry for this user, database, address and encryption, then SELECT pg_reload_conf()."
    CONNECT_DATABASE "SURUS-C010" Outside "the database does not exist" "List them: psql -l"
    CONNECT_ROLE "SURUS-C011" Outside "the role does not exist or may not log in" "Create it: CREATE ROLE surus LOGIN; GRANT pg_monitor TO surus;"
    CONNECT_TLS "SURUS-C012" Outside "the TLS connection could not be made" "Check sslmode, sslrootcert and the server's certificate: openssl s_client -starttls postgres -connect <host>:<port>"
    CONNECT_NO_TLS "SURUS-C013" Outside "the server does not offer TLS and sslmode asks for it" "Turn on ssl on the server, or lower sslmode if the network is trusted."
    CONNECT_CERTIFICATE "SURUS-C014" Outside "the certificate cannot be trusted" "Check sslrootcert, the certificate's names and its dates."
    CONNECT_CLIENT_CERT "SURUS-C015" Usage "the client certificate or key cannot be used" "Check sslcert and sslkey; the key must be readable by you alone (mode 0600)."
    CONNECT_STARTING "SURUS-C016" Outside "the server is starting up, shutting down or recovering" "Wait, then try again; its log says how far it is."
    CONNECT_TOO_MANY "SURUS-C017" Outside "the server has no connection slot left" "End idle sessions or use a superuser slot; `surus check` names who holds them once it is in."
    CONNECT_NOT_POSTGRES "SURUS-C018" Outside "what answers there is not PostgreSQL" "Check the port; PostgreSQL's is usually 5432."
    CONNECT_CLOSED "SURUS-C019" Outside "the server closed the connection" "Read the server's log for a crash or an administrator's command."
    CONNECT_SESSION_ATTRS "SURUS-C020" Outside "no host has the wanted target_session_attrs" "Check which host is the primary: SELECT pg_is_in_recovery();"
    CONNECT_AUTH_METHOD "SURUS-C021" Outside "the server asks for an authentication method that surus does not speak" "Use scram-sha-256, md5, cert, peer or trust for this role in pg_hba.conf."
    CONNECT_CHANNEL_BINDING "SURUS-C022" Outside "channel binding was required and is not possible" "Use TLS with a certificate whose signature has a hash, and scram-sha-256; or channel_binding=prefer."
    CONNECT_POOLER "SURUS-C023" Precondition "a connection pooler answers there, not PostgreSQL" "Give the server's own port; a pooler's answers are about somebody else's session."
    CONNECT_VERSION "SURUS-C024" Precondition "this PostgreSQL is older than surus can check" "surus knows 13 to 18; upgrade the server."
    CONNECT_OPTION "SURUS-C025" Usage "the connection option has a value that it cannot have" "The message above names it; examples: surus check --help"
    CONNECT_OTHER "SURUS-C026" Outside "the server refused the connection" "Its message is above; the server's log may say more."
    CONNECT_SECOND "SURUS-C027" Outside "surus's second session with the server is in use" "Try again in a moment: surus has never more than two sessions with a server."
    // Q: asking
    QUERY_PRIVILEGE "SURUS-Q001" Outside "the role may not see this" "GRANT pg_monitor TO <role>;"
    QUERY_LOCKED "SURUS-Q002" Outside "somebody holds a lock" "Find who: SELECT pid, query FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(<pid>));"
    QUERY_TIMEOUT "SURUS-Q003" Outside "the query took longer than surus allows itself" "Try again when the server is less busy."
    QUERY_FAILED "SURUS-Q004" Outside "the server answered with an error" "Its message is above."
    QUERY_UNEXPECTED "SURUS-Q005" Bug "the server's answer has another shape than expected" "Please report it with the server's version."
    // L: local servers
    LOCAL_PROGRAMS "SURUS-L001" Precondition "PostgreSQL's programs were not found" "Install them: sudo apt-get install postgresql"
    LOCAL_ROOT "SURUS-L002" Precondition "PostgreSQL refuses to run as root and no other user is there" "Create one: useradd --system postgres; or run surus as an ordinary user."
    LOCAL_START "SURUS-L003" Outside "the local server did not start" "Its log's last lines are above."
    LOCAL_DIRECTORY "SURUS-L004" Precondition "the directory cannot be used" "Choose another with --dir, or make room."
    LOCAL_PROGRAM_FAILED "SURUS-L005" Outside "one of PostgreSQL's programs failed" "Its message is above."
    LOCAL_PORT "SURUS-L006" Precondition "the port is taken" "Choose another with --port, or leave it out for a free one."
    // S: store
    STORE_OPEN "SURUS-S001" Precondition "surus's own file cannot be opened" "Check the directory's owner and mode, or give another with --data-dir."
    STORE_WRITE "SURUS-S002" Outside "surus's own file cannot be written" "Make room or mend the permissions; nothing was recorded."
    STORE_DAMAGED "SURUS-S003" Outside "surus's own file is damaged" "Keep a copy; move it away and surus starts a new one. Proofs in it can be read with sqlite3."
    STORE_CHAIN "SURUS-S004" Findings "the ledger's hash chain is broken" "Someone changed or removed an entry; `surus proof verify` names the first bad one."
    STORE_VERSION "SURUS-S005" Precondition "surus's own file was written by a newer surus" "Use that version or newer."
    STORE_NOT_FOUND "SURUS-S006" Usage "there is no such ledger entry" "List them: surus proof list"
    STORE_REFUSED "SURUS-S007" Precondition "samples were not stored" "The message says which rule they break; the others are stored as before."
    STORE_TOO_MUCH "SURUS-S008" Usage "the answer would be too large" "Ask for fewer series or a shorter time."
    // F: fixing
    FIX_UNKNOWN_FINDING "SURUS-F001" Usage "no current finding has that id or key" "List them: surus check <DSN> --format json"
    FIX_STEP_FAILED "SURUS-F002" Outside "a step failed; the later steps were not taken" "What was done is in the ledger: surus proof list; take it back with surus undo."
    FIX_NOT_CONFIRMED "SURUS-F003" Precondition "nothing was changed because nobody confirmed it" "Add --yes to apply without a question."
    FIX_NOTHING_TO_UNDO "SURUS-F004" Usage "that ledger entry is no change that can be taken back" "List the changes: surus proof list --kind change"
    FIX_STILL_THERE "SURUS-F005" Findings "the plan was carried out and the finding is still there" "Run surus check again; a restart or some time may be needed."
    FIX_STANDBY "SURUS-F006" Precondition "a standby cannot be changed" "Give the primary's address."
    FIX_SURPRISE "SURUS-F007" Precondition "the server is no longer as the plan saw it" "Run surus fix again and read the new plan."
    // T: tuning
    TUNE_MACHINE "SURUS-T001" Usage "the machine is not known" "Say it: --memory 16GB --cores 4"
    // G: configuration
    CONFIG_READ "SURUS-G001" Usage "the configuration file cannot be read" "Check the path and its mode."
    CONFIG_SYNTAX "SURUS-G002" Usage "the configuration file is not valid" "See the line above; `surus config explain` prints the reference."
    CONFIG_TARGET "SURUS-G003" Usage "no target was given" "Give a connection string, or [[target]] in surus.toml."
    // O: output
    OUTPUT_WRITE "SURUS-O001" Outside "the report cannot be written" "Check the path, its directory's mode and the free space."
    CHECK_UNKNOWN_ID "SURUS-O002" Usage "there is no such check" "List them: surus check list"
    INPUT_READ "SURUS-O003" Usage "a file that was named cannot be read" "Check the path and its mode."
    OUTPUT_TERMINAL "SURUS-O004" Usage "there is no terminal that can be used" "Run it in a terminal, or print one look: surus top --once"
    REPORT_TARGET "SURUS-O005" Usage "the report is of no target that is watched" "Name one that the message names: surus report instance TARGET"
    OUTPUT_EXISTS "SURUS-O006" Usage "the file is there already" "Choose another name with -o, or replace it with --force."
    // W: surus serve
    WEB_OPEN "SURUS-W001" Usage "surus does not listen on the network without a login" "Set [serve] password = \"file:/etc/surus/password\" (or token) in surus.toml, or listen on 127.0.0.1."
    WEB_PORT_TAKEN "SURUS-W002" Precondition "somebody listens on that address already" "Choose another with --listen, or find who has it: ss -ltnp"
    WEB_LISTEN "SURUS-W003" Precondition "surus cannot listen on that address" "Give an address of this machine and a free port: --listen 127.0.0.1:7432"
    SERVE_RUNNING "SURUS-W004" Precondition "another surus serve uses that data directory" "Stop it, or give this one a directory of its own with --data-dir."
    SERVE_SECRET "SURUS-W005" Usage "a secret that the configuration refers to is not there" "Check the variable (env:NAME) or the file (file:/path); the file must be readable for surus."
    SERVE_LOGIN "SURUS-W006" Outside "the surus that was asked wants a login" "Put it into the address (--server http://surus:password@host:port) or a token into SURUS_TOKEN; on its own machine --config finds both."
    // M: series and PromQL
    PROMQL_QUERY "SURUS-M001" Usage "the query is not valid PromQL" "The message above says where; the language: https://prometheus.io/docs/prometheus/latest/querying/basics/"
    PROMQL_EXECUTION "SURUS-M002" Outside "the query cannot be evaluated" "Its message is above; narrow the selectors, or the range."
    PROMQL_TIMEOUT "SURUS-M003" Outside "the query took too long" "Ask for fewer series, a shorter range or a longer step."
    PROMQL_REMOTE "SURUS-M004" Outside "who was asked over HTTP did not answer" "Is surus serve running there? Check the address given with --url or --server; a login goes into it (http://user:password@host:port), a token into SURUS_TOKEN."
    PROMQL_TIME "SURUS-M005" Usage "a time or step cannot be read" "Write 2026-01-31T12:00:00Z, seconds since 1970, now, or how long ago: 90m, 6h, 7d."
    // V: events
    EVENT_REFUSED "SURUS-V001" Usage "the event was not kept" "The message says what to change; examples: surus event add --help"
    // B: backups, WAL and restores
    REPO_ADDRESS "SURUS-B001" Usage "the repository's address is not valid" "Write a folder (/var/lib/surus/repo), s3://bucket/folder, gs://bucket/folder or azure://container/folder; examples: surus backup --help"
    REPO_ABSENT "SURUS-B002" Precondition "there is no repository" "Check the address, and that the folder is mounted. Where there never was one: surus backup init --repo PLACE makes it, before archive_command is set."
    REPO_FOREIGN "SURUS-B003" Precondition "the place holds something else" "Give an empty folder of its own to the repository."
    REPO_NEWER "SURUS-B004" Precondition "the repository was written by a newer surus" "Use that version or newer."
    REPO_UNREACHABLE "SURUS-B005" Outside "the repository cannot be reached" "Check the network, the mount and the address, then run the command again; what was acknowledged is there."
    REPO_DENIED "SURUS-B006" Outside "the repository's place says that surus may not" "Check the folder's owner and mode, or the credentials and their rights to read, write, list and delete."
    REPO_FULL "SURUS-B007" Outside "the repository has no room" "Make room (surus backup expire --dry-run shows what may go), then run the command again."
    REPO_BROKEN "SURUS-B008" Outside "the repository's place failed" "Its message is above; for a disk, read the kernel's log: dmesg"
    REPO_DAMAGED "SURUS-B009" Outside "something in the repository is damaged or missing" "surus backup verify says what else is; take a new full backup: surus backup run --full"
    REPO_KEY "SURUS-B010" Usage "the repository's key is missing or another one" "Give the key by reference: key = \"file:/etc/surus/repo.key\" or --repo-key env:NAME."
    REPO_CLUSTER "SURUS-B011" Usage "the cluster in the repository is not clear" "Name it by its system identifier: --cluster N; surus backup list shows them."
    WAL_REFUSED "SURUS-B020" Precondition "the file is not the WAL that its name says" "Nothing was archived. Is archive_command's %p a file of this server's pg_wal, and the repository for this cluster?"
    WAL_CONFLICT "SURUS-B021" Outside "another file of that name with other content is in the archive" "Two servers write into one archive, or the cluster was restored without a new timeline: give one of them another repository. Nothing was replaced."
    WAL_ABSENT "SURUS-B022" Findings "the file is not in the archive" "At the end of recovery that is normal; surus wal list shows what is there."
    WAL_NAME "SURUS-B023" Usage "that is not the name of a WAL file" "In postgresql.conf: archive_command = 'surus wal push --repo … %p', restore_command = 'surus wal get --repo … %f %p'."
    WAL_GAP "SURUS-B024" Findings "WAL is missing in the archive" "Moments after the gap can be reached from a backup that began after it: surus backup run --full"
    WAL_AGENT "SURUS-B025" Outside "the WAL agent does not answer" "The command works without it, slower; its log is beside its socket."
    WAL_STREAM "SURUS-B026" Outside "the stream of WAL broke off" "Its message is above; surus wal receive goes on where it was."
    BACKUP_REFUSED "SURUS-B030" Precondition "the backup cannot be taken" "The message above says what must hold first."
    BACKUP_ABORTED "SURUS-B031" Outside "the backup was broken off" "It counts for nothing; run it again, and it takes over what was stored already."
    BACKUP_NO_WAL "SURUS-B032" Outside "the WAL that the backup needs is not in the archive" "Is archive_command set and working? SELECT * FROM pg_stat_archiver; or run surus wal receive."
    BACKUP_UNKNOWN "SURUS-B033" Usage "there is no such backup" "List them: surus backup list"
    BACKUP_PAGES "SURUS-B034" Findings "the backup is complete and holds damaged pages" "The server's own pages are damaged: look at the named relations with amcheck, and keep an older backup."
    BACKUP_FILE "SURUS-B035" Outside "a file cannot be read or written" "Check its owner and mode; surus must run as the server's user or as root to read a data directory."
    BACKUP_NO_ROOM "SURUS-B036" Outside "there is no room for the files" "Make room and run the command again; it goes on where it was."
    BACKUP_BUSY "SURUS-B037" Precondition "another surus is at work on the same thing" "Wait for it, or end it; what is left behind by one that died is taken over after some minutes."
    BACKUP_HOOK "SURUS-B038" Outside "a hook failed" "Its output is above."
    RESTORE_TARGET "SURUS-B040" Precondition "that moment cannot be reached" "The message above says which moments can; surus prove window shows them all."
    RESTORE_DIRECTORY "SURUS-B041" Precondition "the directory is not one to restore into" "Give an empty one with --to, or --delta for an older copy of the same cluster that is not running."
    RESTORE_ROOM "SURUS-B042" Precondition "the restore would not fit" "Make room, or give another directory with --to."
    RESTORE_START "SURUS-B043" Outside "the restored server did not come up" "Its log's last lines are above; the restored files are complete."
    RESTORE_USAGE "SURUS-B044" Usage "the restore was not asked for in a way that can be done" "Examples: surus restore --help"
    RESTORE_FETCH "SURUS-B045" Precondition "the restored server could not fetch its WAL" "Nothing was restored. The account that runs PostgreSQL's programs (postgres, when root calls) must be able to run surus, enter the repository's folder and read the file of its key: chgrp postgres FILE, chmod 640 FILE."
    // P: copies of a cluster: drills, the past, clones, repair
    PROVE_SCRATCH "SURUS-P001" Precondition "the place for copies cannot be used" "Give a directory with room that the server's account may enter: --scratch DIR, or [prove] scratch in surus.toml."
    PROVE_ROOM "SURUS-P002" Precondition "a copy would not fit" "Nothing was written. Make room, or give another directory: --scratch DIR."
    PROVE_TOOL "SURUS-P003" Outside "a backup tool's own command failed" "Its message is above; surus only read what it keeps."
    PROVE_ENGINE "SURUS-P004" Usage "it is not clear whose backups are meant" "Name them: --repo PLACE, or --engine pgbackrest|barman|wal-g|basebackup|dump with its options; examples: surus prove restore --help"
    PROVE_NO_BACKUP "SURUS-P005" Precondition "there is no backup that could be restored" "The message above says what there is; take one: surus backup run"
    PROVE_FAILED "SURUS-P006" Findings "the drill failed: this backup does not give back a sound cluster" "The step and its evidence are above and in the ledger: surus proof list --kind restore"
    PROVE_INTERRUPTED "SURUS-P010" Outside "the drill was interrupted" "Nothing is recorded. surus prove restore --resume goes on with what was restored, if that is still there."
    PROVE_NOTIFY "SURUS-P011" Outside "nobody could be told of a failed proof" "Check [prove] webhook and command in surus.toml; the proof itself is in the ledger."
    ENGINE_WAL "SURUS-P020" Precondition "WAL that the restore needs is missing" "The segment is named above. Moments before it may still be reached: surus prove window shows them. Take a new backup: it does not need the lost WAL."
    ENGINE_DAMAGED "SURUS-P021" Precondition "the backup is damaged" "What is damaged is named above. Older backups may be whole: give one with --backup LABEL; take a new one."
    ENGINE_ACCESS "SURUS-P022" Precondition "the backup may not be read by who restores it" "Give the named path back the owner and the mode that the tool made it with."
    ENGINE_LACKS "SURUS-P023" Precondition "the backup does not hold everything" "What it lacks is named above; take one without the option that leaves it out."
    ENGINE_FORM "SURUS-P024" Usage "it is not a backup of that kind" "The message above says what was expected; examples: surus prove restore --help"
    ENGINE_PATH "SURUS-P025" Usage "nothing is at the path that was given" "Nothing was restored. Check the path: it is looked for on this machine, by who runs surus; examples: surus prove restore --help"
    COPY_UNKNOWN "SURUS-P030" Usage "there is no such copy" "List them: surus at --list, surus clone list"
    MOMENT_USAGE "SURUS-P031" Usage "nothing was asked of the past in a way that can be answered" "Examples: surus at --help"
    DIFF_TABLE "SURUS-P032" Usage "it is not clear which table is meant" "Write SCHEMA.TABLE as it was called at that moment; surus at TIME -c '\\d' lists them."
    DIFF_KEY "SURUS-P033" Usage "the rows of that table cannot be told apart" "Name columns that do with --key COLUMN,COLUMN."
    REPAIR_TEST "SURUS-P034" Findings "the repair did not pass its test on a copy" "Nothing was written. What the server said is above: an archive that ends before the accident, rows that changed meanwhile, or rows that other rows depend on."
    COPY_TABLESPACE "SURUS-P038" Precondition "a copy would write into a tablespace of the original" "Take a new backup: surus backup run. Moments before the tablespace was made can be restored from the backups there are."
    CLONE_NAME "SURUS-P040" Usage "the clone's name is taken" "Choose another, or remove that one: surus clone drop NAME; surus clone list shows them."
    CLONE_MASK "SURUS-P041" Precondition "the clone could not be masked" "Nothing of it was left. Put the rules of [[mask]] right; values are not repeated in messages."
    CLONE_REHEARSAL "SURUS-P042" Findings "the clone did not answer its rehearsal queries" "It runs; what the server said is above and in the ledger: surus proof list --kind clone"
    CLONE_START "SURUS-P043" Precondition "the clone was not started" "surus clone list shows its state and port; another port: surus clone start NAME --port PORT."
    PAGE_WHICH "SURUS-P050" Usage "it is not clear which page is meant" "Name it as PostgreSQL's log does: --log 'invalid page in block 7 of relation base/5/16384', or --relation SCHEMA.NAME --block N; neither finds damaged pages itself."
    PAGE_UNREAD "SURUS-P051" Precondition "no page could be read" "Run it as the server's account on its machine, or grant what the message names."
    PAGE_DAMAGED "SURUS-P052" Findings "pages are damaged" "Where, what is lost and the way back are above. Copy the data directory before anything is repaired."
    PAGE_COPY "SURUS-P053" Precondition "the backup is not one of the damaged server" "Give its own: --repo PLACE, with --cluster N when the repository holds several."
    // X: ourselves
    BUG "SURUS-X001" Bug "a bug in surus" "Please report it with the command and the text above."
}

/// The code with this id.
pub fn find(id: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut ids: Vec<_> = CODES.iter().map(|code| code.id).collect();
        assert!(ids.iter().all(|id| id.len() == 10 && id.starts_with("SURUS-")));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CODES.len());
    }
}
