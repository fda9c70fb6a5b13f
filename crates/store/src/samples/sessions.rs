//! Active sessions of some minutes as bytes: each string and query id once, sessions as numbers that point to them. As
//! JSON they take ten times the bytes once unpacked, and reading them takes most of the time of a question.

use std::collections::HashMap;

use surus_core::series::Window;

use super::Damage;
use super::bytes::{Cursor, put, put_signed};
use super::scan::{Scanned, SessionRef, Text};

/// The first byte; a row of JSON begins with `[`.
pub(super) const MARK: u8 = 1;

/// What a session may lack, by bit; what it has follows in this order.
const BLOCKED: u64 = 1;
const TRANSACTION: u64 = 2;
const QUERY: u64 = 4;
const LEADER: u64 = 8;

/// Strings that a session points to.
const STRINGS: usize = 8;

/// Makes the bytes of a row.
#[derive(Debug, Default)]
pub(super) struct Writer {
    strings: HashMap<String, u64>,
    texts: Vec<u8>,
    queries: HashMap<i64, u64>,
    query_ids: Vec<u8>,
    moments: u64,
    last_ms: i64,
    body: Vec<u8>,
}

impl Writer {
    /// Adds the sessions of the next moment.
    pub(super) fn add(&mut self, at_ms: i64, sessions: &[SessionRef<'_>]) {
        let mut some = Vec::with_capacity(sessions.len() * 20);
        for session in sessions {
            self.session(&mut some, session);
        }
        // Times of two's complement: the way there and back wraps alike.
        put_signed(&mut self.body, at_ms.wrapping_sub(self.last_ms));
        put(&mut self.body, sessions.len() as u64);
        put(&mut self.body, some.len() as u64);
        self.body.append(&mut some);
        (self.moments, self.last_ms) = (self.moments + 1, at_ms);
    }

    fn session(&mut self, out: &mut Vec<u8>, session: &SessionRef<'_>) {
        put_signed(out, i64::from(session.pid));
        let strings: [&Option<Text<'_>>; STRINGS] = [
            &session.database,
            &session.user,
            &session.application,
            &session.client,
            &session.backend_type,
            &session.state,
            &session.wait_event_type,
            &session.wait_event,
        ];
        for text in strings {
            put(out, text.as_deref().map_or(0, |text| self.string(text)));
        }
        put(out, session.query_id.map_or(0, |id| self.query(id)));
        let bit = |is: bool, bit: u64| if is { bit } else { 0 };
        put(
            out,
            bit(!session.blocked_by.is_empty(), BLOCKED)
                | bit(session.transaction_age_ms.is_some(), TRANSACTION)
                | bit(session.query_age_ms.is_some(), QUERY)
                | bit(session.leader_pid.is_some(), LEADER),
        );
        if !session.blocked_by.is_empty() {
            put(out, session.blocked_by.len() as u64);
            session.blocked_by.iter().for_each(|pid| put_signed(out, i64::from(*pid)));
        }
        let ages = session.transaction_age_ms.into_iter().chain(session.query_age_ms);
        ages.chain(session.leader_pid.map(i64::from)).for_each(|number| put_signed(out, number));
    }

    fn string(&mut self, text: &str) -> u64 {
        if let Some(place) = self.strings.get(text) {
            return *place;
        }
        let place = self.strings.len() as u64 + 1;
        self.strings.insert(text.to_owned(), place);
        put(&mut self.texts, text.len() as u64);
        self.texts.extend_from_slice(text.as_bytes());
        place
    }

    fn query(&mut self, id: i64) -> u64 {
        let next = self.queries.len() as u64 + 1;
        *self.queries.entry(id).or_insert_with(|| {
            self.query_ids.extend_from_slice(&id.to_le_bytes());
            next
        })
    }

    /// All of it.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let mut out = vec![MARK];
        put(&mut out, self.strings.len() as u64);
        out.append(&mut self.texts);
        put(&mut out, self.queries.len() as u64);
        out.append(&mut self.query_ids);
        put(&mut out, self.moments);
        out.append(&mut self.body);
        out
    }
}

/// Shows the moments in the window one by one.
pub(super) fn each_look(
    bytes: &[u8],
    window: Window,
    mut see: impl FnMut(i64, &[SessionRef<'_>]),
) -> Result<Scanned, Damage> {
    let mut cursor = Cursor(bytes.strip_prefix(&[MARK]).ok_or(Damage("it is no row of sessions"))?);
    let count = cursor.take_count(bytes.len())?;
    let text = |_| {
        let length = cursor.take_count(bytes.len())?;
        std::str::from_utf8(cursor.take_bytes(length)?).map_err(|_| Damage("a string is no UTF-8"))
    };
    let strings: Vec<&str> = (0..count).map(text).collect::<Result<_, _>>()?;
    let count = cursor.take_count(bytes.len())?;
    let (queries, rest) = cursor.take_bytes(count.checked_mul(8).ok_or(ENDS)?)?.as_chunks::<8>();
    debug_assert!(rest.is_empty());
    let tables = Tables { strings, queries };
    let (mut sessions, mut at_ms) = (Vec::new(), 0i64);
    let mut seen = Scanned::default();
    for _ in 0..cursor.take_count(bytes.len())? {
        at_ms = at_ms.wrapping_add(cursor.take_signed()?);
        let (count, length) = (cursor.take_count(bytes.len())?, cursor.take_count(bytes.len())?);
        let mut some = Cursor(cursor.take_bytes(length)?);
        if !window.holds(at_ms) {
            continue;
        }
        sessions.clear();
        for _ in 0..count {
            sessions.push(tables.session(&mut some)?);
        }
        seen.add(Scanned { moments: 1, records: count });
        see(at_ms, &sessions);
    }
    Ok(seen)
}

const ENDS: Damage = Damage("it ends too early");
const ODD: Damage = Damage("it points to nothing");

/// What sessions point to.
struct Tables<'a> {
    strings: Vec<&'a str>,
    queries: &'a [[u8; 8]],
}

impl<'a> Tables<'a> {
    fn session(&self, cursor: &mut Cursor<'_>) -> Result<SessionRef<'a>, Damage> {
        let pid = take_pid(cursor)?;
        let mut string = || -> Result<Option<Text<'a>>, Damage> {
            let Some(place) = place(cursor.take()?) else { return Ok(None) };
            self.strings.get(place).map(|text| Some(Text::from(*text))).ok_or(ODD)
        };
        let (database, user, application, client) = (string()?, string()?, string()?, string()?);
        let (backend_type, state, wait_event_type, wait_event) = (string()?, string()?, string()?, string()?);
        let query_id = match place(cursor.take()?) {
            Some(place) => Some(i64::from_le_bytes(*self.queries.get(place).ok_or(ODD)?)),
            None => None,
        };
        let bits = cursor.take()?;
        let mut blocked_by = Vec::new();
        if bits & BLOCKED > 0 {
            for _ in 0..cursor.take_count(cursor.0.len())? {
                blocked_by.push(take_pid(cursor)?);
            }
        }
        let mut number = |bit| if bits & bit > 0 { cursor.take_signed().map(Some) } else { Ok(None) };
        let (transaction_age_ms, query_age_ms) = (number(TRANSACTION)?, number(QUERY)?);
        let leader_pid = if bits & LEADER > 0 { Some(take_pid(cursor)?) } else { None };
        Ok(SessionRef {
            pid,
            database,
            user,
            application,
            client,
            backend_type,
            state,
            wait_event_type,
            wait_event,
            query_id,
            blocked_by,
            transaction_age_ms,
            query_age_ms,
            leader_pid,
        })
    }
}

fn take_pid(cursor: &mut Cursor<'_>) -> Result<i32, Damage> {
    i32::try_from(cursor.take_signed()?).map_err(|_| Damage("a process id is too large"))
}

/// 0 is nothing.
fn place(number: u64) -> Option<usize> {
    usize::try_from(number).unwrap_or(usize::MAX).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::super::SessionSample;
    use super::*;
    use proptest::prelude::*;

    fn session() -> impl Strategy<Value = SessionSample> {
        let text = || prop::option::of("[a-c\"\\\\ü]{0,3}");
        let number = || prop::option::of(any::<i64>());
        let names = (text(), text(), text(), text());
        let blocked = prop::collection::vec(any::<i32>(), 0..3);
        (any::<i32>(), names, text(), number(), number(), number(), prop::option::of(any::<i32>()), blocked).prop_map(
            |(pid, names, wait_event, query_id, transaction_age_ms, query_age_ms, leader_pid, blocked_by)| {
                let (database, user, application, client) = names;
                SessionSample {
                    pid,
                    database: database.clone(),
                    user,
                    application,
                    client,
                    backend_type: wait_event.clone(),
                    state: database,
                    wait_event_type: None,
                    wait_event,
                    query_id,
                    blocked_by,
                    transaction_age_ms,
                    query_age_ms,
                    leader_pid,
                }
            },
        )
    }

    fn looks() -> impl Strategy<Value = Vec<(i64, Vec<SessionSample>)>> {
        prop::collection::vec((any::<i64>(), prop::collection::vec(session(), 0..5)), 0..5)
    }

    proptest! {
        #[test]
        fn any_sessions_come_back(looks in looks()) {
            let mut writer = Writer::default();
            for (at_ms, sessions) in &looks {
                let text = serde_json::to_string(sessions).unwrap();
                writer.add(*at_ms, &serde_json::from_str::<Vec<SessionRef<'_>>>(&text).unwrap());
            }
            let bytes = writer.into_bytes();
            let mut back = Vec::new();
            let window = Window { after_ms: i64::MIN, until_ms: i64::MAX };
            each_look(&bytes, window, |at_ms, sessions| {
                back.push((at_ms, sessions.iter().map(SessionRef::to_sample).collect::<Vec<_>>()));
            }).unwrap();
            let looks: Vec<_> = looks.into_iter().filter(|(at_ms, _)| window.holds(*at_ms)).collect();
            prop_assert_eq!(back, looks);
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>) {
            bytes.insert(0, MARK);
            let window = Window { after_ms: i64::MIN, until_ms: i64::MAX };
            let _read = each_look(&bytes, window, |_, _| ());
        }
    }
}
