//! The script and the style of the pages, built by `build.rs` from `ui/` and part of the program.
//!
//! Their addresses carry a hash of their content, so a browser may keep them for ever.

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::pages;

mod built {
    use super::Asset;

    include!(concat!(env!("OUT_DIR"), "/assets/assets.rs"));
}

/// Everything that is served below `/static/`.
const ALL: [&Asset; 3] = [&built::SCRIPT, &built::THEME, &built::STYLE];

/// One file, plain and compressed.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

/// Where the script of the pages is: to be loaded with `defer`.
pub fn script_path() -> &'static str {
    built::SCRIPT.path
}

/// Where the script is that sets light or dark before anything is drawn: to be loaded without `defer`, in the head.
pub fn theme_path() -> &'static str {
    built::THEME.path
}

/// Where the style of the pages is.
pub fn style_path() -> &'static str {
    built::STYLE.path
}

/// `GET /static/{file}`
pub async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    let found = ALL.iter().find(|asset| asset.path.strip_prefix("/static/") == Some(file.as_str()));
    let Some(asset) = found else { return pages::not_found().await };
    let kept = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if takes_gzip(&headers) {
        (kept, [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))], asset.gzip).into_response()
    } else {
        (kept, asset.plain).into_response()
    }
}

/// Does the client name gzip, without a weight of nought (RFC 9110, section 12.5.3)?
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        named && weight.is_ok_and(|weight| weight > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compressed bytes of all scripts together.
    const SCRIPT_LIMIT_BYTES: usize = 300_000;

    #[test]
    fn the_scripts_stay_small() {
        let bytes: usize = ALL.iter().filter(|asset| asset.path.ends_with(".js")).map(|asset| asset.gzip.len()).sum();
        assert!((10_000..SCRIPT_LIMIT_BYTES).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in ALL {
            let text = std::str::from_utf8(asset.plain).unwrap();
            for word in ["src=\"http", "url(http", "@import", "sourceMappingURL", "unpkg", "jsdelivr"] {
                assert!(!text.contains(word), "{word} is in {}", asset.path);
            }
        }
    }

    #[tokio::test]
    async fn compressed_for_those_who_take_it() {
        let ask = async |accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            }
            let file = style_path().trim_start_matches("/static/").to_owned();
            asset(Path(file), headers).await.headers().contains_key(header::CONTENT_ENCODING)
        };
        assert!(ask(Some("gzip, deflate, br")).await && ask(Some("br;q=1.0, gzip;q=0.8")).await);
        assert!(!ask(None).await && !ask(Some("br")).await && !ask(Some("gzip;q=0")).await);
    }

    #[tokio::test]
    async fn another_hash_is_another_file() {
        let answer = asset(Path("surus-000000000000.js".to_owned()), HeaderMap::new()).await;
        assert_eq!(answer.status(), axum::http::StatusCode::NOT_FOUND);
    }
}
