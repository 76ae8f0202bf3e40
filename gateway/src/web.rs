//! The trading page and the operators' console: the files of `gateway/web`, built into the binary and compressed once. All but
//! the page itself lie under a path with the hash of their contents, so that browsers keep them for ever and never mix two
//! versions.

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
const TRADE_POLICY: &str = "default-src 'self'; style-src 'self' 'sha256-LOGO'; img-src 'self' data:; \
                            base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Nothing from elsewhere, and none in the page at all.
const CONSOLE_POLICY: &str = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; \
                              frame-ancestors 'none'";
/// Where that style stands in the chart's library.
const LOGO_STYLE: [&str; 2] = [".innerText=\"", "\""];

const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Browsers may keep what can never change; the page itself they have to ask for.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

const CHART: &str = include_str!("../web/vendor/lightweight-charts.mjs");
/// In a page, where the hash goes.
const FOLDER: &str = "\"/web/";

/// Name, kind and text of a file.
type Source = (&'static str, &'static str, &'static str);

macro_rules! files {
    ($kind:expr, $($name:literal),* $(,)?) => { [$(($name, $kind, include_str!(concat!("../web/", $name)))),*] };
}

const TRADE_MODULES: [Source; 16] = files![
    SCRIPT,
    "app/account.js",
    "app/book.js",
    "app/candles.js",
    "app/chart.js",
    "app/decimal.js",
    "app/depth_chart.js",
    "app/dom.js",
    "app/filters.js",
    "app/keys.js",
    "app/main.js",
    "app/market.js",
    "app/order_form.js",
    "app/panels.js",
    "app/requests.js",
    "app/session.js",
    "app/settings.js",
];

/// Its own, and those of the trading page that it shares.
const CONSOLE_MODULES: [Source; 9] = files![
    SCRIPT,
    "app/dom.js",
    "app/settings.js",
    "console/actions.js",
    "console/door.js",
    "console/main.js",
    "console/numbers.js",
    "console/panels.js",
    "console/rates.js",
    "console/table.js",
];

const TRADE_STYLES: [Source; 2] = files!["text/css; charset=utf-8", "base.css", "style.css"];
const CONSOLE_STYLES: [Source; 2] = files!["text/css; charset=utf-8", "base.css", "console/style.css"];
const LIBRARY: [Source; 1] = [("vendor/lightweight-charts.mjs", SCRIPT, CHART)];
const LICENCES: [Source; 2] = files![TEXT, "vendor/LICENSE", "vendor/NOTICE"];

/// One file, as it is and compressed.
struct File {
    kind: &'static str,
    tag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

/// A page with its files, made once.
struct Site {
    hash: String,
    policy: HeaderValue,
    page: File,
    files: Vec<(&'static str, File)>,
}

static TRADE: LazyLock<Site> = LazyLock::new(|| {
    let others = [&TRADE_STYLES[..], &LIBRARY, &LICENCES].concat();
    Site::new(include_str!("../web/index.html"), trade_policy(), &TRADE_MODULES, &others)
});

static CONSOLE: LazyLock<Site> = LazyLock::new(|| {
    let policy = HeaderValue::from_static(CONSOLE_POLICY);
    Site::new(include_str!("../web/console/index.html"), policy, &CONSOLE_MODULES, &CONSOLE_STYLES)
});

impl Site {
    /// The page is told to load its modules ahead.
    fn new(page: &str, policy: HeaderValue, modules: &[Source], others: &[Source]) -> Site {
        let sources = || modules.iter().chain(others);
        let mut digest = Sha256::new();
        for (name, _, text) in sources() {
            digest.update(name);
            digest.update(text);
        }
        let hash = hex::encode(&digest.finalize()[..8]);
        let preload = |(name, ..): &Source| format!("  <link rel=\"modulepreload\" href=\"/web/{name}\">\n");
        let preloads: String = modules.iter().map(preload).collect();
        let page = page.replace("</head>", &format!("{preloads}</head>")).replace(FOLDER, &format!("{FOLDER}{hash}/"));
        let files = sources().map(|(name, kind, text)| (*name, File::new(kind, text))).collect();
        Site { hash, policy, page: File::new("text/html; charset=utf-8", &page), files }
    }

    /// The page; which part of it to show it finds in its own address.
    fn page(&self, request: &Request<Body>) -> Response<Body> {
        self.page.answer(request.headers(), ASK_AGAIN, &self.policy)
    }

    fn file(&self, hash: &str, name: &str, request: &Request<Body>) -> Response<Body> {
        match self.files.iter().find(|(known, _)| *known == name) {
            Some((_, file)) if hash == self.hash => file.answer(request.headers(), FOR_EVER, &self.policy),
            _ => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}

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

    fn answer(&self, headers: &HeaderMap, keep: &'static str, policy: &HeaderValue) -> Response<Body> {
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
        set.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if is_gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn trade_policy() -> HeaderValue {
    let style = CHART.split_once(LOGO_STYLE[0]).and_then(|(_, rest)| rest.split_once(LOGO_STYLE[1]));
    let hash = base64_of(&Sha256::digest(style.map_or("", |(style, _)| style)));
    HeaderValue::from_str(&TRADE_POLICY.replace("LOGO", &hash)).expect("base64 is a header")
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The paths of the trading page.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = |request: Request<Body>| async move { TRADE.page(&request) };
    Router::new()
        .route("/", get(page))
        .route("/trade/{symbol}", get(page))
        .route("/web/{hash}/{*name}", get(trade_file))
}

/// The paths of the operators' console. Its files carry no data, so that nobody has to say who he is for them.
pub fn console_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = |request: Request<Body>| async move { CONSOLE.page(&request) };
    Router::new().route("/", get(page)).route("/web/{hash}/{*name}", get(console_file))
}

async fn trade_file(Path((hash, name)): Path<(String, String)>, request: Request<Body>) -> Response<Body> {
    TRADE.file(&hash, &name, &request)
}

async fn console_file(Path((hash, name)): Path<(String, String)>, request: Request<Body>) -> Response<Body> {
    CONSOLE.file(&hash, &name, &request)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn modules_in(folder: &str) -> BTreeSet<String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web").join(folder);
        let names = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".js")).map(|name| format!("{folder}/{name}")).collect()
    }

    #[test]
    fn every_module_is_built_in() {
        let names = |modules: &[Source]| modules.iter().map(|(name, ..)| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(modules_in("app"), names(&TRADE_MODULES));
        let shared = names(&CONSOLE_MODULES).intersection(&names(&TRADE_MODULES)).cloned().collect();
        let together: BTreeSet<String> = modules_in("console").union(&shared).cloned().collect();
        assert_eq!(together, names(&CONSOLE_MODULES));
    }

    #[test]
    fn what_a_page_names_and_its_modules_import_is_there() {
        for site in [&*TRADE, &*CONSOLE] {
            let page = String::from_utf8(site.page.plain.to_vec()).unwrap();
            let folder = format!("\"/web/{}/", site.hash);
            let names: Vec<&str> = page.split(&folder).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
            assert!(names.len() > 8);
            for name in names {
                assert!(site.files.iter().any(|(known, _)| *known == name), "{name}");
            }
            for (from, file) in &site.files {
                let text = std::str::from_utf8(&file.plain).unwrap();
                let own = ["app", "console"].into_iter().find(|folder| from.starts_with(folder));
                for import in own.into_iter().flat_map(|_| text.split("from \"").skip(1)) {
                    let import = import.split('"').next().unwrap();
                    let name = match (import.strip_prefix("../"), import.strip_prefix("./")) {
                        (Some(name), _) => name.to_owned(),
                        (None, name) => format!("{}/{}", own.unwrap(), name.unwrap()),
                    };
                    assert!(site.files.iter().any(|(known, _)| *known == name), "{from} imports {import}");
                }
            }
        }
    }

    #[test]
    fn the_first_load_is_small() {
        let load =
            |site: &Site| site.files.iter().map(|(_, file)| file.gzip.len()).sum::<usize>() + site.page.gzip.len();
        let (trade, console) = (load(&TRADE), load(&CONSOLE));
        assert!(trade < 150_000 && console < 40_000, "{trade} {console}");
    }

    #[test]
    fn the_policy_names_the_style_of_the_chart() {
        let (_, style) = CHART.split_once(LOGO_STYLE[0]).unwrap();
        assert!(style.starts_with("a#tv-attr-logo{"));
        assert!(!TRADE.policy.to_str().unwrap().contains("LOGO"));
    }
}
