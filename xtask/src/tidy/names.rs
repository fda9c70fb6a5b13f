//! What modules may be called, and what `mod.rs` may hold.

use super::Breach;
use super::source::Source;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["manager", "managers", "helper", "helpers", "util", "utils", "common"];

pub fn module_name(source: &Source) -> Vec<Breach> {
    let name = |what: &str| format!("`{what}` says nothing; name the module after what is in it");
    let mut breaches: Vec<Breach> = source
        .path
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| Breach::new(&source.path, 0, name(part)))
        .collect();
    for line in &source.lines {
        let mut words = line.code.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|w| !w.is_empty());
        if words.any(|word| word == "mod")
            && let Some(module) = words.next()
            && EMPTY_NAMES.contains(&module)
        {
            breaches.push(Breach::new(&source.path, line.number, name(module)));
        }
    }
    breaches
}

pub fn mod_rs_without_logic(source: &Source) -> Vec<Breach> {
    if !source.path.ends_with("/mod.rs") {
        return Vec::new();
    }
    let functions = source
        .lines
        .iter()
        .filter(|line| line.code.split(|char: char| !char.is_alphanumeric() && char != '_').any(|word| word == "fn"));
    functions
        .map(|line| Breach::new(&source.path, line.number, "mod.rs declares modules; it holds no function"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_name_is_a_breach() {
        assert_eq!(module_name(&Source::new("crates/x/src/utils.rs", "")).len(), 1);
        assert_eq!(module_name(&Source::new("crates/x/src/helper/a.rs", "")).len(), 1);
        assert_eq!(module_name(&Source::new("crates/x/src/a.rs", "pub mod common {\n}")).len(), 1);
        assert_eq!(module_name(&Source::new("crates/x/src/commons.rs", "// mod common\nmod utility;")).len(), 0);
    }

    #[test]
    fn a_function_in_mod_rs_is_a_breach() {
        assert_eq!(mod_rs_without_logic(&Source::new("crates/x/src/a/mod.rs", "mod b;\nfn c() {}")).len(), 1);
        assert_eq!(
            mod_rs_without_logic(&Source::new("crates/x/src/a/mod.rs", "mod b;\n// fn\npub use b::fnord;")).len(),
            0
        );
        assert_eq!(mod_rs_without_logic(&Source::new("crates/x/src/a.rs", "fn c() {}")).len(), 0);
    }
}
