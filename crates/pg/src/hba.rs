//! The server's host-based authentication rules, in the order in which it tries them.

use crate::{
    ask::{AskError, AskErrorKind},
    session::Session,
};

/// One line of pg_hba.conf as `pg_hba_file_rules` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRule {
    pub line: u32,
    /// `local`, `host`, `hostssl`, `hostnossl`, `hostgssenc` or `hostnogssenc`.
    pub kind: String,
    pub databases: Vec<String>,
    pub users: Vec<String>,
    /// An address, a host name, `all`, `samehost` or `samenet`; absent for `local`.
    pub address: Option<String>,
    pub netmask: Option<String>,
    /// `trust`, `reject`, `scram-sha-256`, `md5`, `password`, `peer`, `cert` …
    pub method: String,
    pub options: Vec<String>,
    /// What is wrong with the line; the server then keeps the rules it had.
    pub error: Option<String>,
    /// The file that holds the line, from 16 on, where included files exist.
    pub file: Option<String>,
}

impl HbaRule {
    /// The length of the network prefix, when the address is one: 24 for 10.0.0.0/24 or netmask 255.255.255.0.
    pub fn prefix_bits(&self) -> Option<u32> {
        let mask: std::net::IpAddr = self.netmask.as_deref()?.parse().ok()?;
        Some(match mask {
            std::net::IpAddr::V4(mask) => u32::from(mask).leading_ones(),
            std::net::IpAddr::V6(mask) => u128::from(mask).leading_ones(),
        })
    }

    /// Does it admit connections only from the host itself (socket, loopback, samehost)?
    pub fn is_local(&self) -> bool {
        match self.address.as_deref() {
            None => self.kind == "local",
            Some("samehost" | "localhost") => true,
            Some(text) => {
                let whole = matches!(self.prefix_bits(), Some(bits) if bits >= 8);
                text.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()) && whole
            }
        }
    }

    /// The line as it could stand in pg_hba.conf.
    pub fn shown(&self) -> String {
        let mut parts = vec![self.kind.clone(), self.databases.join(","), self.users.join(",")];
        match (self.address.as_deref(), self.prefix_bits()) {
            (Some(address), Some(bits)) => parts.push(format!("{address}/{bits}")),
            (Some(address), None) => parts.push(address.to_owned()),
            (None, _) => {}
        }
        parts.push(self.method.clone());
        parts.extend(self.options.iter().cloned());
        parts.join(" ")
    }
}

/// Reads the rules; an inner error says why the role may not.
///
/// # Errors
/// When the connection is gone.
pub(crate) async fn read(session: &Session) -> Result<Result<Vec<HbaRule>, String>, AskError> {
    let file = if session.version().major() >= 16 { "file_name" } else { "NULL::text" };
    let sql = format!(
        "SELECT line_number, type, database, user_name, address, netmask, auth_method, options, error, \
         {file} AS file FROM pg_catalog.pg_hba_file_rules"
    );
    let hidden = "only a superuser (or a role with EXECUTE on pg_hba_file_rules()) sees pg_hba.conf";
    match session.may_read("pg_hba_file_rules", "pg_hba_file_rules").await {
        Ok(false) => return Ok(Err(hidden.into())),
        Err(error) if error.kind == AskErrorKind::Closed => return Err(error),
        Ok(true) | Err(_) => {}
    }
    let rows = match session.ask(&sql).await {
        Ok(rows) => rows,
        Err(error) if error.kind == AskErrorKind::Closed => return Err(error),
        Err(error) if error.kind == AskErrorKind::Privilege => return Ok(Err(hidden.into())),
        Err(error) => return Ok(Err(error.message)),
    };
    let read = |row: crate::rows::Row<'_>| {
        Ok::<_, crate::rows::RowError>(HbaRule {
            line: row.i64("line_number")?.try_into().unwrap_or_default(),
            kind: row.text("type")?,
            databases: row.list("database")?,
            users: row.list("user_name")?,
            address: row.opt_str("address")?.map(str::to_owned),
            netmask: row.opt_str("netmask")?.map(str::to_owned),
            method: row.text("auth_method")?,
            options: row.list("options")?,
            error: row.opt_str("error")?.map(str::to_owned),
            file: row.opt_str("file")?.map(str::to_owned),
        })
    };
    Ok(rows.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string()))
}
