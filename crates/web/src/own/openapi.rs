//! The OpenAPI document of our API (spec.openapis.org, version 3.1), made of the table of its addresses.

use super::{Asked, ENDPOINTS, Endpoint, PREFIX};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let data = (endpoint.schema)(&mut schemas);
        let body = endpoint.body.map(|body| body(&mut schemas));
        let way = if endpoint.asked == Asked::Post { "post" } else { "get" };
        let path = paths.entry(format!("{PREFIX}{}", endpoint.path)).or_insert_with(|| json!({}));
        path[way] = operation(endpoint, &data, body.as_ref());
    }
    let mut components = schemas.take_definitions(true);
    components.insert("Error".into(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "surus",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the pages of surus show, as JSON. The Prometheus HTTP API is beside it, below /api/v1.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": components },
    })
}

fn operation(endpoint: &Endpoint, data: &schemars::Schema, body: Option<&schemars::Schema>) -> Value {
    let mut parameters: Vec<Value> = named_in(endpoint.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let range = [
        (
            "from",
            "Where the range begins: now-1h, seconds or milliseconds since 1970, or a date (UTC). now-1h if absent.",
        ),
        ("to", "Where it ends; now if absent."),
    ];
    let own = endpoint.parameters.iter().map(|parameter| (parameter.name, parameter.about));
    let range = range.into_iter().filter(|_| endpoint.asked == Asked::OverRange);
    parameters.extend(range.chain(own).map(
        |(name, about)| json!({ "name": name, "in": "query", "description": about, "schema": { "type": "string" } }),
    ));
    let mut operation = json!({
        "summary": endpoint.about,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "The view",
                "content": { "application/json": { "schema": {
                    "type": "object",
                    "required": ["status", "data"],
                    "properties": { "status": { "const": "success" }, "data": data },
                } } },
            },
            "default": {
                "description": "Nothing was answered but why",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    if let Some(body) = body {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    operation
}

/// The names in braces in a path.
fn named_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["status", "errorType", "error"],
        "properties": {
            "status": { "const": "error" },
            "errorType": { "enum": ["bad_data", "execution", "timeout", "internal", "not_found", "forbidden"] },
            "error": { "type": "string" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `docs/openapi.json` is what a reader without surus has. `UPDATE_DOCS=1` writes it anew.
    #[test]
    fn the_file_is_what_the_routes_are_made_of() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(there == text, "docs/openapi.json is not true: run UPDATE_DOCS=1 cargo test -p surus-web openapi");
    }

    #[test]
    fn every_reference_has_its_schema() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        assert_eq!(named_in("/targets/{target}/queries/{query}").collect::<Vec<_>>(), ["target", "query"]);
    }
}
