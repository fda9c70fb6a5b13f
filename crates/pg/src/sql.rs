//! Where a query is asked, and queries that differ between majors.

/// What a check or a collector is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The instance: it is asked once, in whichever database surus is connected to.
    Instance,
    /// A database: it is asked in every database that the role may connect to.
    Database,
}

/// A query for a range of majors, both ends included.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    pub from: u16,
    pub to: u16,
    pub text: &'static str,
}

impl Sql {
    /// The same text for every major.
    pub const fn all(text: &'static str) -> Self {
        Self { from: 0, to: u16::MAX, text }
    }

    /// For this major and newer.
    pub const fn since(from: u16, text: &'static str) -> Self {
        Self { from, to: u16::MAX, text }
    }

    /// For this major and older.
    pub const fn until(to: u16, text: &'static str) -> Self {
        Self { from: 0, to, text }
    }

    /// The first of these texts whose range holds the major.
    pub fn of_major(texts: &[Self], major: u16) -> Option<&'static str> {
        texts.iter().find(|sql| (sql.from..=sql.to).contains(&major)).map(|sql| sql.text)
    }
}
