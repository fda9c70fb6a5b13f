//! Who may connect from where: the rules of pg_hba.conf as sets that contain one another, and the roles they meet.

use crate::{
    rule::Access,
    scene::Scene,
    verdict::{Trouble, Verdict},
};
use std::net::IpAddr;
use surus_core::{
    finding::Reason,
    plan::{Plan, Step},
};
use surus_pg::{
    hba::HbaRule,
    rows::{RowError, Rows},
    settings::Settings,
};

const LOCAL: u8 = 1;
const TLS: u8 = 2;
const GSS: u8 = 4;
const PLAIN: u8 = 8;

/// The valid rules of pg_hba.conf in the order in which the server tries them. Lines with an error are
/// cfg.file_errors' business.
///
/// # Errors
/// Unknown: the role may not see them.
pub(crate) fn rules<'a>(scene: &'a Scene<'_>) -> Result<Vec<&'a HbaRule>, Reason> {
    Ok(scene.hba()?.iter().filter(|rule| rule.error.is_none()).collect())
}

/// The rule as a person reads it, without the secrets that options of ldap and radius hold.
pub(crate) fn shown(rule: &HbaRule) -> String {
    let mut safe = rule.clone();
    for option in &mut safe.options {
        if let Some((name, _)) = option.split_once('=')
            && SECRET_OPTIONS.contains(&name)
        {
            *option = format!("{name}=***");
        }
    }
    safe.shown()
}

/// Options of pg_hba.conf whose value is a secret.
pub(crate) const SECRET_OPTIONS: &[&str] = &["ldapbindpasswd", "radiussecrets"];

/// Does the rule let somebody in at all?
pub(crate) fn admits(rule: &HbaRule) -> bool {
    rule.method != "reject"
}

/// Does the method ask for a password that the server keeps?
pub(crate) fn asks_password(rule: &HbaRule) -> bool {
    matches!(rule.method.as_str(), "scram-sha-256" | "md5" | "password")
}

/// Does every connection that `inner` matches also match `outer`? False where it cannot be told (host names,
/// regular expressions, groups), so that nothing is called unreachable that is not.
pub(crate) fn covers(outer: &HbaRule, inner: &HbaRule) -> bool {
    let transports = transports(inner) & !transports(outer) == 0;
    let all = |list: &[String]| list.iter().any(|item| item == "all");
    let databases = inner
        .databases
        .iter()
        .all(|item| outer.databases.contains(item) || (all(&outer.databases) && item != "replication"));
    let users = all(&outer.users) || inner.users.iter().all(|item| outer.users.contains(item));
    transports && databases && users && covers_address(outer, inner)
}

fn transports(rule: &HbaRule) -> u8 {
    match rule.kind.as_str() {
        "local" => LOCAL,
        "hostssl" => TLS,
        "hostnossl" => GSS | PLAIN,
        "hostgssenc" => GSS,
        "hostnogssenc" => TLS | PLAIN,
        _ => TLS | GSS | PLAIN,
    }
}

fn covers_address(outer: &HbaRule, inner: &HbaRule) -> bool {
    match (outer.address.as_deref(), inner.address.as_deref()) {
        (None, None) | (Some("all"), Some(_)) => true,
        (Some(one), Some(other)) if one == other && outer.netmask == inner.netmask => true,
        (Some(_), Some(_)) => match (Network::of(outer), Network::of(inner)) {
            (Some(outer), Some(inner)) => outer.contains(&inner),
            _ => false,
        },
        _ => false,
    }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    /// IPv4 in the upper 32 bits, so that both families compare alike.
    bits: u128,
    pub prefix: u32,
    pub v6: bool,
}

impl Network {
    /// The block of a rule, when its address is one.
    pub fn of(rule: &HbaRule) -> Option<Self> {
        let address: IpAddr = rule.address.as_deref()?.parse().ok()?;
        Some(Self::new(address, rule.prefix_bits()?))
    }

    /// From `10.0.0.0/8` or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.trim().parse().ok()?;
        let whole = if address.is_ipv6() { 128 } else { 32 };
        let prefix = prefix.map_or(Some(whole), |text| text.trim().parse().ok())?;
        (prefix <= whole).then(|| Self::new(address, prefix))
    }

    fn new(address: IpAddr, prefix: u32) -> Self {
        match address {
            IpAddr::V4(v4) => Self { bits: u128::from(u32::from(v4)) << 96, prefix, v6: false },
            IpAddr::V6(v6) => Self { bits: u128::from(v6), prefix, v6: true },
        }
    }

    /// Is all of `other` in it?
    pub fn contains(&self, other: &Self) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
        self.v6 == other.v6 && self.prefix <= other.prefix && (self.bits ^ other.bits) & mask == 0
    }
}

/// Where the server accepts connections besides its Unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listens {
    /// Nowhere.
    Sockets,
    /// Only on loopback addresses.
    Loopback,
    /// Where other machines may come from.
    Network,
}

/// What `listen_addresses` means.
pub(crate) fn listens(settings: &Settings) -> Listens {
    let addresses = settings.list("listen_addresses").unwrap_or_default();
    let loopback = |text: &&str| *text == "localhost" || text.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match () {
        () if addresses.is_empty() => Listens::Sockets,
        () if addresses.iter().all(loopback) => Listens::Loopback,
        () => Listens::Network,
    }
}

/// May any account of the machine use the server's Unix sockets?
pub(crate) fn sockets_open_to_all(settings: &Settings) -> bool {
    let mode = settings.text("unix_socket_permissions").and_then(|text| u32::from_str_radix(text, 8).ok());
    mode.is_none_or(|mode| mode & 0o002 != 0)
}

/// What is stored to verify a role's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verifier {
    Nothing,
    Md5,
    Scram,
    /// Not visible to this role.
    Hidden,
}

/// A role that may log in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub name: String,
    pub superuser: bool,
    pub verifier: Verifier,
    /// VALID UNTIL is past: password methods refuse it.
    pub expired: bool,
    /// The roles it is a member of, directly or not.
    pub groups: Vec<String>,
    /// Sessions that it has now from other machines.
    pub remote_sessions: i64,
}

impl Login {
    /// Does the rule speak of this role?
    pub fn meets(&self, rule: &HbaRule) -> bool {
        rule.users.iter().any(|item| match item.strip_prefix('+') {
            Some(group) => self.groups.iter().any(|one| one == group),
            None => item == "all" || *item == self.name,
        })
    }

    /// Can it pass a rule that asks for this method's password?
    pub fn could_pass(&self, rule: &HbaRule) -> bool {
        match (rule.method.as_str(), self.verifier) {
            ("reject", _) => false,
            ("scram-sha-256" | "md5" | "password", Verifier::Nothing) => false,
            ("scram-sha-256", Verifier::Md5) => false,
            ("scram-sha-256" | "md5" | "password", _) => !self.expired,
            _ => true,
        }
    }
}

/// All roles that may log in; verifiers only where we are superuser.
///
/// # Errors
/// As a query's.
pub(crate) async fn logins(scene: &Scene<'_>, access: Access<'_>) -> Result<Vec<Login>, Trouble> {
    let (catalog, verifier) = match scene.facts.role.superuser {
        true => ("pg_authid", "coalesce(left(r.rolpassword, 3), '')"),
        false => ("pg_roles", "'?'"),
    };
    let sql = format!(
        "WITH RECURSIVE chain(member, roleid) AS (SELECT member, roleid FROM pg_auth_members \
           UNION SELECT c.member, m.roleid FROM chain c JOIN pg_auth_members m ON m.member = c.roleid), \
         groups AS (SELECT c.member, array_agg(g.rolname::text) AS names FROM chain c JOIN pg_roles g ON g.oid = c.roleid GROUP BY 1), \
         remote AS (SELECT usesysid, count(*) AS n FROM pg_stat_activity \
           WHERE client_addr IS NOT NULL AND NOT client_addr <<= '127.0.0.0/8' AND client_addr <> '::1' GROUP BY 1) \
         SELECT r.rolname AS name, r.rolsuper AS superuser, {verifier} AS verifier, groups.names AS groups, \
           coalesce(r.rolvaliduntil < now(), false) AS expired, coalesce(remote.n, 0) AS remote_sessions \
         FROM {catalog} r LEFT JOIN groups ON groups.member = r.oid LEFT JOIN remote ON remote.usesysid = r.oid \
         WHERE r.rolcanlogin ORDER BY r.rolname"
    );
    Ok(read(&access.session.ask(&sql).await?)?)
}

fn read(rows: &Rows) -> Result<Vec<Login>, RowError> {
    let one = |row: surus_pg::Row<'_>| {
        Ok(Login {
            name: row.text("name")?,
            superuser: row.bool("superuser")?,
            verifier: match row.str("verifier")? {
                "SCR" => Verifier::Scram,
                "md5" => Verifier::Md5,
                "?" => Verifier::Hidden,
                _ => Verifier::Nothing,
            },
            expired: row.bool("expired")?,
            groups: row.list("groups")?,
            remote_sessions: row.i64("remote_sessions")?,
        })
    };
    rows.iter().map(one).collect()
}

/// A plan that gives a rule another method; advice where surus cannot edit the file that holds it.
pub(crate) fn change_method(settings: &Settings, rule: &HbaRule, method: &str, effect: &str) -> Plan {
    let new = HbaRule { method: method.to_owned(), options: Vec::new(), ..rule.clone() };
    let summary = format!("let line {} of pg_hba.conf say {method}", rule.line);
    if is_in_main_file(settings, rule) {
        Plan::one(summary, Step::hba_line(rule.line, rule.shown(), Some(new.shown()), effect))
    } else {
        let file = rule.file.as_deref().unwrap_or("pg_hba.conf");
        Plan::advice(format!(
            "change line {} of {file} to \"{}\", then SELECT pg_reload_conf()",
            rule.line,
            shown(&new)
        ))
    }
}

/// Is the rule's line in pg_hba.conf itself, not in a file that it includes?
pub(crate) fn is_in_main_file(settings: &Settings, rule: &HbaRule) -> bool {
    match (rule.file.as_deref(), settings.text("hba_file")) {
        (Some(file), Some(main)) => file == main,
        _ => true,
    }
}

/// Adds that the verifiers are hidden, when they are.
pub(crate) fn with_hidden_verifiers(scene: &Scene<'_>, verdict: Verdict) -> Verdict {
    if scene.facts.role.superuser {
        return verdict;
    }
    verdict.but_unknown("stored passwords", Reason::Privilege("only a superuser sees pg_authid".into()))
}

#[cfg(test)]
pub(crate) use tests::rule;

/// Why a step that takes a right away is taken only by name.
pub(crate) const RELIED_ON: &str = "whoever relies on it is refused afterwards";

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule from a line without netmask columns, as pg_hba_file_rules would give it.
    pub(crate) fn rule(line: &str) -> HbaRule {
        let words: Vec<&str> = line.split_whitespace().collect();
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        let local = words[0] == "local";
        let at = if local { 3 } else { 4 };
        let (address, netmask) = match words[3].split_once('/').filter(|_| !local) {
            Some((address, bits)) => {
                let ip: IpAddr = address.parse().unwrap();
                let bits: u32 = bits.parse().unwrap();
                let mask: IpAddr = match ip {
                    IpAddr::V4(_) => IpAddr::V4(u32::MAX.checked_shl(32 - bits).unwrap_or(0).into()),
                    IpAddr::V6(_) => IpAddr::V6(u128::MAX.checked_shl(128 - bits).unwrap_or(0).into()),
                };
                (Some(address.to_owned()), Some(mask.to_string()))
            }
            None => ((!local).then(|| words[3].to_owned()), None),
        };
        HbaRule {
            line: 1,
            kind: words[0].into(),
            databases: list(words[1]),
            users: list(words[2]),
            address,
            netmask,
            method: words[at].into(),
            options: words[at + 1..].iter().map(|text| (*text).to_owned()).collect(),
            error: None,
            file: None,
        }
    }

    #[test]
    fn one_rule_covers_another() {
        let cases = [
            ("host all all all md5", "hostssl shop app 10.1.2.0/24 scram-sha-256", true),
            ("host all all 0.0.0.0/0 md5", "host all all 10.0.0.0/8 md5", true),
            ("host all all 0.0.0.0/0 md5", "host all all ::/0 md5", false),
            ("host all all 10.0.0.0/8 md5", "host all all 0.0.0.0/0 md5", false),
            ("host all all 10.0.0.0/8 md5", "host all all 11.0.0.0/16 md5", false),
            ("host all all all md5", "host replication all all md5", false),
            ("host all,replication all all md5", "host replication all 10.0.0.0/8 md5", true),
            ("hostssl all all all md5", "host all all all md5", false),
            ("hostnossl all all all reject", "hostgssenc all all all gss", true),
            ("local all all peer", "host all all 127.0.0.1/32 md5", false),
            ("local all app,web peer", "local shop web peer", true),
            ("local all app peer", "local all all peer", false),
            ("host all +staff all md5", "host all joe all md5", false),
        ];
        for (outer, inner, expected) in cases {
            assert_eq!(covers(&rule(outer), &rule(inner)), expected, "{outer} | {inner}");
        }
    }

    #[test]
    fn networks_contain_networks() {
        let net = |text| Network::parse(text).unwrap();
        assert!(net("10.0.0.0/8").contains(&net("10.9.0.0/16")));
        assert!(net("::/0").contains(&net("fd00::/8")) && !net("::/0").contains(&net("10.0.0.0/8")));
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("db1").is_none());
        assert_eq!(net("10.0.0.1").prefix, 32);
    }

    #[test]
    fn secrets_of_options_are_not_shown() {
        let text = shown(&rule("host all all all ldap ldapserver=a ldapbindpasswd=hush"));
        assert_eq!(text, "host all all all ldap ldapserver=a ldapbindpasswd=***");
    }

    #[test]
    fn a_role_meets_rules_by_name_group_or_all() {
        let login = Login {
            name: "joe".into(),
            superuser: false,
            verifier: Verifier::Md5,
            expired: false,
            groups: vec!["staff".into()],
            remote_sessions: 0,
        };
        let meets = |line| login.meets(&rule(line));
        assert!(meets("local all joe peer") && meets("local all +staff peer") && meets("local all all peer"));
        assert!(!meets("local all +joe peer") && !meets("local all web peer"));
        assert!(
            login.could_pass(&rule("local all all md5")) && !login.could_pass(&rule("local all all scram-sha-256"))
        );
    }
}
