//! The trading page: the files of `gateway/web`, built into the binary and compressed once. All but the page itself lie under a
//! path with the hash of their contents, so that browsers keep them for ever and never mix two versions.

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use sha2::{Digest, Sha256};

/// Nothing from elsewhere, and no script or style in the page but one: the chart lays this style for its logo, whose link to its
/// makers the licence asks for.
const CONTENT_POLICY: &str = "default-src 'self'; style-src 'self' 'sha256-LOGO'; img-src 'self' data:; \
                              base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Where that style stands in the chart's library.
const LOGO_STYLE: [&str; 2] = [".innerText=\"", "\""];

const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Browsers may keep what can never change; the page itself they have to ask for.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

const CHART: &str = include_str!("../web/vendor/lightweight-charts.mjs");
const PAGE: &str = include_str!("../web/index.html");
/// In the page, where the hash goes.
const FOLDER: &str = "\"/web/";

macro_rules! modules {
    ($($name:literal),* $(,)?) => { [$((concat!("app/", $name), SCRIPT, include_str!(concat!("../web/app/", $name)))),*] };
}

const MODULES: [(&str, &str, &str); 16] = modules![
    "account.js",
    "book.js",
    "candles.js",
    "chart.js",
    "decimal.js",
    "depth_chart.js",
    "dom.js",
    "filters.js",
    "keys.js",
    "main.js",
    "market.js",
    "order_form.js",
    "panels.js",
    "requests.js",
    "session.js",
    "settings.js",
];

const OTHERS: [(&str, &str, &str); 4] = [
    ("style.css", "text/css; charset=utf-8", include_str!("../web/style.css")),
    ("vendor/lightweight-charts.mjs", SCRIPT, CHART),
    ("vendor/LICENSE", TEXT, include_str!("../web/vendor/LICENSE")),
    ("vendor/NOTICE", TEXT, include_str!("../web/vendor/NOTICE")),
];

/// One file, as it is and compressed.
struct File {
    kind: &'static str,
    tag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

/// All files, made once.
struct Web {
    hash: String,
    policy: HeaderValue,
    page: File,
    files: Vec<(&'static str, File)>,
}

static WEB: LazyLock<Web> = LazyLock::new(|| {
    let sources = || MODULES.iter().chain(&OTHERS);
    let mut digest = Sha256::new();
    for (name, _, text) in sources() {
        digest.update(name);
        digest.update(text);
    }
    let hash = hex::encode(&digest.finalize()[..8]);
    let preloads: String =
        MODULES.iter().map(|(name, ..)| format!("  <link rel=\"modulepreload\" href=\"/web/{name}\">\n")).collect();
    let page = PAGE.replace("</head>", &format!("{preloads}</head>")).replace(FOLDER, &format!("{FOLDER}{hash}/"));
    let files = sources().map(|(name, kind, text)| (*name, File::new(kind, text))).collect();
    Web { hash, policy: policy(), page: File::new("text/html; charset=utf-8", &page), files }
});

impl File {
    fn new(kind: &'static str, text: &str) -> File {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let written = gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish());
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(text)[..8]));
        File {
            kind,
            tag: HeaderValue::from_str(&tag).expect("hexadecimal digits are a header"),
            plain: Bytes::copy_from_slice(text.as_bytes()),
            gzip: written.expect("memory can be written to").into(),
        }
    }

    fn answer(&self, headers: &HeaderMap, keep: &'static str) -> Response<Body> {
        let has = |name: HeaderName, wanted: &str| {
            headers.get_all(name).iter().any(|value| value.to_str().is_ok_and(|value| value.contains(wanted)))
        };
        let is_known = has(header::IF_NONE_MATCH, self.tag.to_str().unwrap_or_default());
        let is_gzip = has(header::ACCEPT_ENCODING, "gzip");
        let body = match (is_known, is_gzip) {
            (true, _) => Bytes::new(),
            (false, true) => self.gzip.clone(),
            (false, false) => self.plain.clone(),
        };
        let mut response = Response::new(Body::from(body));
        let set = response.headers_mut();
        set.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        set.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
        set.insert(header::ETAG, self.tag.clone());
        set.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        set.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        set.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        set.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        set.insert(header::CONTENT_SECURITY_POLICY, WEB.policy.clone());
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if is_gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn policy() -> HeaderValue {
    let style = CHART.split_once(LOGO_STYLE[0]).and_then(|(_, rest)| rest.split_once(LOGO_STYLE[1]));
    let hash = base64_of(&Sha256::digest(style.map_or("", |(style, _)| style)));
    HeaderValue::from_str(&CONTENT_POLICY.replace("LOGO", &hash)).expect("base64 is a header")
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The paths of the page.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(page)).route("/trade/{symbol}", get(page)).route("/web/{hash}/{*name}", get(file))
}

/// The page; which symbol it is to show it finds in its own address.
async fn page(request: Request<Body>) -> Response<Body> {
    WEB.page.answer(request.headers(), ASK_AGAIN)
}

async fn file(Path((hash, name)): Path<(String, String)>, request: Request<Body>) -> Response<Body> {
    match WEB.files.iter().find(|(known, _)| *known == name) {
        Some((_, file)) if hash == WEB.hash => file.answer(request.headers(), FOR_EVER),
        _ => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_built_in() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web/app");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| format!("app/{}", file.unwrap().file_name().to_string_lossy()))
            .collect();
        there.sort();
        assert_eq!(there, MODULES.map(|(name, ..)| name.to_owned()));
    }

    #[test]
    fn what_the_page_names_is_there() {
        let page = String::from_utf8(WEB.page.plain.to_vec()).unwrap();
        let folder = format!("\"/web/{}/", WEB.hash);
        let names: Vec<&str> = page.split(&folder).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(names.len() > MODULES.len());
        for name in names {
            assert!(WEB.files.iter().any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn the_first_load_is_small() {
        let bytes: usize = WEB.files.iter().map(|(_, file)| file.gzip.len()).sum::<usize>() + WEB.page.gzip.len();
        assert!(bytes < 150_000, "{bytes}");
    }

    #[test]
    fn the_policy_names_the_style_of_the_chart() {
        let (_, style) = CHART.split_once(LOGO_STYLE[0]).unwrap();
        assert!(style.starts_with("a#tv-attr-logo{"));
        assert!(!WEB.policy.to_str().unwrap().contains("LOGO"));
    }
}
