//! The way back: what to do, as commands with real names. Nothing of it is run here.
//!
//! Source: PostgreSQL's documentation of REINDEX, VACUUM, pg_visibility and the developer options.

use super::{
    Page,
    page::Wrong,
    patient::Patient,
    place::Fork,
    relation::{Kind, Relation},
    rows::{Known, Rows},
};
use serde::Serialize;
use surus_pg::quote::{ident, literal, shell as word};

/// Rows that are named in a command, at most.
const NAMED: usize = 300;

/// The time, as `surus diff` takes it.
const NOW: &str = r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
/// A transaction of its own, at which a recovery to the time above ends: what comes after it marks entries of indexes
/// as dead for want of their rows, and the WAL has such marks before the transaction that makes them commits.
const END: &str = "SELECT pg_current_xact_id()";
/// Archives what was written, and waits for it, ten minutes at most.
const WAIT: &str = "DO $$ DECLARE last text := pg_walfile_name(pg_switch_wal()); BEGIN FOR i IN 1..1200 LOOP \
     EXIT WHEN (SELECT last_archived_wal >= last FROM pg_stat_archiver); PERFORM pg_sleep(0.5); \
     PERFORM pg_stat_clear_snapshot(); END LOOP; END $$";

/// One way, or a step before all ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    pub text: String,
    /// For a shell, in this order.
    pub commands: Vec<String>,
}

/// What the commands are about: words for a shell, quoted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The server as the user named it to surus, after a space; or nothing.
    pub server: String,
    /// The flags that name surus's own repository for `surus diff`, and for `surus restore`.
    pub diff: Option<String>,
    pub restore: Option<String>,
    /// The backup is another tool's.
    pub other_tool: bool,
}

impl Advice {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), commands: Vec::new() }
    }

    fn with(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.commands.extend(commands);
        self
    }
}

fn psql(dsn: &str, statements: &[String]) -> String {
    let each: String = statements.iter().map(|sql| format!(" -c {}", word(sql))).collect();
    format!("psql -X -v ON_ERROR_STOP=1 {}{each}", word(dsn))
}

/// What to do before anything else.
pub fn precautions(patient: &Patient) -> Vec<Advice> {
    let data =
        patient.data_directory.as_ref().map_or_else(|| "DATA_DIRECTORY".into(), |data| data.display().to_string());
    let data = word(&data);
    vec![
        Advice::new(
            "Keep what is there: stop the server and copy its data directory (and tablespaces) before anything is \
             repaired; let no backup expire until all is well (surus backup keep)",
        )
        .with([format!("pg_ctl stop -D {data} -m fast"), format!("cp -a {data} ELSEWHERE")]),
        Advice::new(
            "Disk, controller or memory are likely to fail again: look before you trust them, and move the server if \
             in doubt",
        )
        .with(["dmesg -T | grep -iE 'I/O error|medium|nvme|ata|EDAC|ext4|xfs'".into(), "smartctl -a DEVICE".into()]),
        Advice::new(
            "Do not set zero_damaged_pages or ignore_checksum_failure to get on: the first throws pages away, the second \
             spreads damage, and both destroy the evidence",
        ),
    ]
}

/// The ways back for a page, the best one first.
pub fn way(page: &Page, patient: &Patient, names: &Names) -> Vec<Advice> {
    let guide = Guide { page, patient, names };
    if patient.standby {
        return guide.standby();
    }
    let Some(relation) = &page.relation else { return guide.unnamed() };
    match (page.fork, relation.kind) {
        (Fork::Main | Fork::Fsm, Kind::Index) => guide.index(relation),
        (Fork::Fsm | Fork::Vm, _) => guide.map(relation),
        (Fork::Init, _) => guide.initial(relation),
        (Fork::Main, _) if relation.catalogue => guide.catalogue(relation),
        (Fork::Main, Kind::MaterializedView) => guide.view(relation),
        (Fork::Main, Kind::Toast) if relation.of.as_ref().is_some_and(|of| of.view) => guide.view(relation),
        (Fork::Main, Kind::Sequence) => guide.sequence(relation),
        (Fork::Main, _) if relation.unlogged => guide.unlogged(relation),
        (Fork::Main, Kind::Toast) => guide.toast(relation),
        (Fork::Main, _) => guide.table(relation),
    }
}

struct Guide<'a> {
    page: &'a Page,
    patient: &'a Patient,
    names: &'a Names,
}

impl Guide<'_> {
    fn database(&self) -> String {
        self.page.database.clone().unwrap_or_else(|| self.patient.own_database())
    }

    fn dsn(&self) -> String {
        self.patient.reference(&self.database())
    }

    fn again(&self, relation: &Relation) -> String {
        format!(
            "surus prove page{} -d {} --relation {}",
            self.names.server,
            word(&self.database()),
            word(&relation.sql())
        )
    }

    fn standby(&self) -> Vec<Advice> {
        let relation = self.page.relation.as_ref();
        let flags = relation.map_or_else(
            || format!("--file {}", word(&self.page.file)),
            |relation| format!("-d {} --relation {}", word(&self.database()), word(&relation.sql())),
        );
        let block = self.page.block.map(|block| format!(" --block {block}")).unwrap_or_default();
        let fork =
            if self.page.fork == Fork::Main { String::new() } else { format!(" --fork {}", self.page.fork.word()) };
        vec![
            Advice::new("This is a standby: as long as the primary has the page right, nothing is lost. Look there")
                .with([format!("surus prove page PRIMARY {flags}{fork}{block}")]),
            Advice::new("Then make this standby anew, on another disk if in doubt; never promote it")
                .with(["pg_basebackup -d PRIMARY -D NEW_DIRECTORY -R -X stream --checkpoint=fast".to_owned()]),
        ]
    }

    /// A standby that has the page right, then all of it from the backup.
    fn others(&self) -> Vec<Advice> {
        let relation = self.page.relation.as_ref();
        let flags = relation.map(|one| format!(" -d {} --relation {}", word(&self.database()), word(&one.sql())));
        let block = self.page.block.map(|block| format!(" --block {block}")).unwrap_or_default();
        let standby = Advice::new(
            "A standby may have the page right, for damage on a disk does not go through the WAL: look there, and if it is \
             sound, switch over to it. Nothing is lost then",
        )
        .with([format!("surus prove page STANDBY{}{block}", flags.unwrap_or_default()), "pg_ctl promote -D STANDBY_DIRECTORY".into()]);
        let archive = psql(&self.patient.reference(&self.patient.own_database()), &["SELECT pg_switch_wal()".into()]);
        let restore = match (&self.names.restore, self.names.other_tool) {
            (Some(repository), _) => Advice::new(
                "All of it anew from the backup, on another disk: with the server's last WAL archived, up to the last \
                 transaction",
            )
            .with([archive, format!("surus restore {repository} --to NEW_DIRECTORY --start"), ]),
            (None, true) => Advice::new(
                "All of it anew from the backup with that tool's own restore command, on another disk: with the server's \
                 last WAL archived, up to the last transaction",
            )
            .with([archive]),
            (None, false) => Advice::new(
                "All of it anew from the backup: surus restore --repo PLACE --to NEW_DIRECTORY, or another tool's command",
            ),
        };
        vec![standby, restore]
    }

    fn unnamed(&self) -> Vec<Advice> {
        let mut all = self.others();
        let name = "Which relation it is, the catalog does not say: it was dropped or rewritten meanwhile (then nothing is \
                    to be done), or the catalog itself is damaged (then never repair it in place)";
        all.insert(0, Advice::new(name));
        all
    }

    fn index(&self, relation: &Relation) -> Vec<Advice> {
        let name = relation.sql();
        let mut all = Vec::new();
        let exclusion = relation.constraint.as_ref().is_some_and(|(_, kind)| *kind == 'x');
        if relation.catalogue {
            let sql = format!("REINDEX INDEX {name}");
            all.push(
                Advice::new(
                    "Nothing is lost in an index. Build it anew from its table, which locks it; -P keeps the server from \
                     using indexes of the catalogue on the way. If nobody is let in any more: the server stopped, \
                     postgres --single -P",
                )
                .with([format!("PGOPTIONS='-P' {}", psql(&self.dsn(), &[sql]))]),
            );
        } else if exclusion {
            all.push(
                Advice::new(
                    "Nothing is lost in an index. Build it anew from its table; that of an exclusion constraint cannot be \
                     built beside its use, and locks the table against writing meanwhile",
                )
                .with([psql(&self.dsn(), &[format!("REINDEX INDEX {name}")])]),
            );
        } else {
            let of = match &relation.constraint {
                Some((constraint, _)) => format!(" (the constraint {} stays in force)", ident(constraint)),
                None => String::new(),
            };
            all.push(
                Advice::new(format!("Nothing is lost in an index. Build it anew from its table, beside its use{of}"))
                    .with([psql(&self.dsn(), &[format!("REINDEX INDEX CONCURRENTLY {name}")])]),
            );
        }
        if relation.constraint.is_some() {
            all.push(Advice::new(
                "If that says that a key exists twice: the damaged index let it through; the rows themselves are at fault then",
            ));
        }
        let table = Relation { oid: 0, ..relation.clone() }.table();
        let mut look = vec![self.again(relation)];
        look.push(self.again(relation).replace(&word(&name), &word(&table)));
        all.push(Advice::new("What damaged it may have damaged its table, too: look at both").with(look));
        all
    }

    /// Source: `RBM_ZERO_ON_ERROR` in `freespace.c` and `visibilitymap.c`; documentation of pg_visibility.
    fn map(&self, relation: &Relation) -> Vec<Advice> {
        let table = relation.sql();
        if self.page.fork == Fork::Vm {
            let sql = [
                "CREATE EXTENSION IF NOT EXISTS pg_visibility".to_owned(),
                format!("SELECT pg_truncate_visibility_map({}::regclass)", literal(&table)),
                format!("VACUUM {table}"),
            ];
            let text = "No row is lost: the map says which pages everybody can see all rows of, and VACUUM makes it anew when it \
                        was cut off (the role must be a superuser, or have the right to call the function)";
            return vec![Advice::new(text).with([psql(&self.dsn(), &sql), self.again(relation)])];
        }
        let text = "No row is lost: the map says where there is room. PostgreSQL reads a damaged page of it as empty; \
                    VACUUM FULL writes table and map anew, and nobody may use the table meanwhile";
        let light = "Without that lock: with the server stopped, remove the map's file, then VACUUM makes it anew";
        let data = self
            .patient
            .data_directory
            .as_ref()
            .map_or_else(|| "DATA_DIRECTORY".into(), |dir| dir.display().to_string());
        let file = word(&format!("{data}/{}", self.page.file));
        let vacuum = psql(&self.dsn(), &[format!("VACUUM {table}")]);
        let mut all = vec![Advice::new(light).with([
            format!("pg_ctl stop -D {} -m fast", word(&data)),
            format!("rm {file}"),
            format!("pg_ctl start -D {}", word(&data)),
            vacuum,
        ])];
        if !relation.catalogue {
            all.push(
                Advice::new(text)
                    .with([psql(&self.dsn(), &[format!("VACUUM FULL {}", relation.table())]), self.again(relation)]),
            );
        }
        all
    }

    fn initial(&self, relation: &Relation) -> Vec<Advice> {
        let table = relation.table();
        let sql = [format!("ALTER TABLE {table} SET LOGGED"), format!("ALTER TABLE {table} SET UNLOGGED")];
        vec![
            Advice::new(
                "No row is lost yet, but the next crash would: the table is written anew with a new initial fork",
            )
            .with([psql(&self.dsn(), &sql)]),
        ]
    }

    fn catalogue(&self, relation: &Relation) -> Vec<Advice> {
        let mut all = vec![Advice::new(format!(
            "{} tells the server what everything else is: never repair it in place, and do not write to this server any \
             more",
            relation.table()
        ))];
        all.extend(self.others());
        all
    }

    fn view(&self, relation: &Relation) -> Vec<Advice> {
        let sql = format!("REFRESH MATERIALIZED VIEW {}", relation.table());
        let text = "Nothing is lost: its rows are computed from other tables, into a new file";
        vec![Advice::new(text).with([psql(&self.dsn(), &[sql]), self.again(relation)])]
    }

    fn sequence(&self, relation: &Relation) -> Vec<Advice> {
        let mut all = vec![Advice::new(format!(
            "A sequence is one number, a little above the values in use. Make a new one that begins above them, and let the \
             column's default use it in place of {}",
            relation.sql()
        ))];
        all.extend(self.others());
        all
    }

    fn unlogged(&self, relation: &Relation) -> Vec<Advice> {
        let table = relation.table();
        vec![
            Advice::new(
                "An unlogged table is in no backup and on no standby: what can be computed again, is; then empty it",
            )
            .with([psql(&self.dsn(), &[format!("TRUNCATE {table}")])]),
        ]
    }

    fn known(&self) -> Option<&Known> {
        match &self.page.rows {
            Rows::Known(known) => Some(known),
            _ => None,
        }
    }

    /// The rows come back by their keys: those that moved to other pages since are not touched. `at` is a word.
    fn diff(&self, known: &Known, repository: &str, at: &str) -> Vec<String> {
        let dsn = word(&self.dsn());
        vec![
            format!(
                "surus diff {} --where {} --at {at} {repository} --vanished-only --repair rows.sql {dsn}",
                word(&known.table),
                word(&condition(known))
            ),
            format!("psql -X -v ON_ERROR_STOP=1 {dsn} -f rows.sql"),
        ]
    }

    /// Throws away what cannot be read, and brings back what was there just before: later WAL lacks it, too.
    fn in_place(&self, known: &Known, repository: &str, statements: Vec<String>) -> Vec<String> {
        let statements = [vec![END.to_owned()], statements, vec![WAIT.to_owned()]].concat();
        let mut commands =
            vec![format!("moment=$(psql -XAt {} -c {})", word(&self.dsn()), word(NOW)), psql(&self.dsn(), &statements)];
        commands.extend(self.diff(known, repository, "\"$moment\""));
        commands
    }

    fn table(&self, relation: &Relation) -> Vec<Advice> {
        let mut all = self.others();
        let table = relation.sql();
        let named = self.known().filter(|known| known.has_key && (1..=NAMED).contains(&known.rows.len()));
        let (Some(repository), Some(known)) = (&self.names.diff, named) else { return all };
        let refused = self.page.wrong.iter().any(Wrong::is_refused);
        let (sql, text) = if refused {
            (
                vec!["SET zero_damaged_pages = on".to_owned(), format!("VACUUM FULL {table}")],
                "Only where neither is possible, and only with a copy of the directory kept: in place. All that can be read goes \
                 into a new file, without this page (that is what the setting is for, in this one session; the old file is \
                 gone then); the rows that are missing come back from the backup by their keys, tried on a copy first",
            )
        } else if self.page.wrong.contains(&Wrong::Zero) {
            (
                vec![format!("REINDEX TABLE {table}")],
                "In place: indexes still point into the emptied page, so they are built anew first; then the missing rows come \
                 back from the backup by their keys, tried on a copy first",
            )
        } else {
            return all;
        };
        let mut commands = match refused {
            true => self.in_place(known, repository, sql),
            false => [vec![psql(&self.dsn(), &sql)], self.diff(known, repository, "latest")].concat(),
        };
        commands.push(self.again(relation));
        all.push(Advice::new(text).with(commands));
        all
    }

    fn toast(&self, relation: &Relation) -> Vec<Advice> {
        let mut all = self.others();
        let refused = self.page.wrong.iter().any(Wrong::is_refused);
        let fits = |known: &&Known| known.rows.is_empty() || (known.has_key && known.rows.len() <= NAMED);
        if let (Some(repository), Some(known), true) = (&self.names.diff, self.known().filter(fits), refused) {
            let table = &known.table;
            let mut sql = vec!["SET zero_damaged_pages = on".to_owned()];
            if !known.rows.is_empty() {
                // Neither triggers nor foreign keys: the rows come back.
                sql.push("SET session_replication_role = replica".to_owned());
                sql.push(format!("DELETE FROM ONLY {table} WHERE {}", condition(known)));
            }
            sql.push(format!("VACUUM FULL {table}"));
            let mut commands = match known.rows.is_empty() {
                true => vec![psql(&self.dsn(), &sql)],
                false => self.in_place(known, repository, sql),
            };
            commands.push(self.again(relation));
            let text = "Only where neither is possible, and only with a copy of the directory kept: in place. The rows whose \
                        values are cut off are removed, all others go into a new file, without this page (that is what the \
                        setting is for, in this one session; the old file is gone then), and the removed ones come back \
                        whole from the backup by their keys, tried on a copy first";
            all.push(Advice::new(text).with(commands));
        }
        all
    }
}

/// The condition that names rows by their keys.
fn condition(known: &Known) -> String {
    let columns = known.key.iter().map(|column| ident(column)).collect::<Vec<_>>();
    let value = |value: &Option<String>| value.as_ref().map_or_else(|| "NULL".into(), |text| literal(text));
    let one = |values: &Vec<Option<String>>| {
        let values = values.iter().map(value).collect::<Vec<_>>().join(", ");
        if columns.len() == 1 { values } else { format!("({values})") }
    };
    let list = known.rows.iter().map(|(_, values)| one(values)).collect::<Vec<_>>().join(", ");
    if columns.len() == 1 {
        format!("{} IN ({list})", columns[0])
    } else {
        format!("({}) IN ({list})", columns.join(", "))
    }
}
