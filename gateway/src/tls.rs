//! TLS on the clients' port (rustls): version 1.2 and later. A certificate that is replaced on disk is taken within seconds,
//! without a restart; one that cannot be used is told of, and the old one stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::config::TlsConfig;

/// How often it is looked whether the files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The certificate in use. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
    files: Arc<Files>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// When both files were last written.
type Stamp = [Option<SystemTime>; 2];

impl Tls {
    /// What the settings name; nothing where they name none.
    pub fn read(config: &TlsConfig) -> Result<Option<Tls>, String> {
        let (Some(certificate), Some(key)) = (config.certificate.clone(), config.key.clone()) else { return Ok(None) };
        let files = Files { certificate, key };
        let current = Arc::new(ArcSwap::new(files.load()?));
        Ok(Some(Tls { current, files: Arc::new(files) }))
    }

    /// Takes a certificate that changed, for as long as the returned task is not stopped.
    pub fn watch(&self) -> tokio::task::JoinHandle<()> {
        let Tls { current, files } = self.clone();
        let mut known = files.stamp();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let found = files.stamp();
                if found == known {
                    continue;
                }
                let loading = files.clone();
                match tokio::task::spawn_blocking(move || loading.load()).await {
                    Ok(Ok(loaded)) => {
                        current.store(loaded);
                        tracing::info!(certificate = %files.certificate.display(), "a new certificate is in use");
                        known = found;
                    }
                    // The two files may be written one after the other: it is tried again until they change no more.
                    Ok(Err(reason)) => {
                        tracing::warn!("the certificate changed and cannot be used, the one before stays: {reason}");
                        known = found;
                    }
                    Err(error) => tracing::warn!("the certificate could not be read: {error}"),
                }
            }
        })
    }

    /// The handshake.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await?
    }
}

impl Files {
    fn load(&self) -> Result<Arc<ServerConfig>, String> {
        let complain = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| complain(&self.certificate, &error))?;
        let mode = fs::metadata(&self.key).map_err(|error| complain(&self.key, &error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(complain(&self.key, &"others than its owner can read or write it; chmod 600 it"));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| complain(&self.key, &error))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| complain(&self.certificate, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
    }
}
