//! Queries that differ between majors.

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
