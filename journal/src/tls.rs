//! Mutual TLS between nodes: each shows a certificate that the cluster's own authority signed, and takes no connection from a
//! node that has none. A node's certificate names the host of its address.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cluster::TlsFiles;
use crate::runtime;
use crate::transport::{Connection, Listener, Transport};

/// How long a caller's handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// Handshakes under way at once; more callers wait in the system's queue.
const HANDSHAKES_MAX: usize = 64;
/// How long is waited after a connection could not be taken.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// TCP with TLS on top.
pub(crate) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// With the certificates and the key in these files.
    pub(crate) fn read(files: &TlsFiles) -> Result<Tls, String> {
        let named = |path: &std::path::Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        let authorities = CertificateDer::pem_file_iter(&files.authority);
        for authority in authorities.map_err(|error| named(&files.authority, &error))? {
            let authority = authority.map_err(|error| named(&files.authority, &error))?;
            roots.add(authority).map_err(|error| named(&files.authority, &error))?;
        }
        let roots = Arc::new(roots);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
            .map_err(|error| named(&files.certificate, &error))?
            .collect();
        let chain = chain.map_err(|error| named(&files.certificate, &error))?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| named(&files.key, &error))?;
        let verifier = WebPkiClientVerifier::builder(roots.clone()).build();
        let verifier = verifier.map_err(|error| named(&files.authority, &error))?;
        let server = ServerConfig::builder().with_client_cert_verifier(verifier);
        let server = server.with_single_cert(chain.clone(), key.clone_key());
        let client = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key);
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(client.map_err(|error| named(&files.certificate, &error))?)),
            acceptor: TlsAcceptor::from(Arc::new(server.map_err(|error| named(&files.certificate, &error))?)),
        })
    }
}

impl Transport for Tls {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let (connector, address) = (self.connector.clone(), address.to_owned());
        Box::pin(async move {
            let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Connection>)
        })
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (acceptor, address) = (self.acceptor.clone(), address.to_owned());
        Box::pin(async move {
            let listener = TcpListener::bind(&address).await?;
            let (sender, greeted) = mpsc::channel(HANDSHAKES_MAX);
            let accepting = runtime::spawn(accept(listener, acceptor, sender));
            Ok(Box::new(TlsListener { greeted, accepting }) as Box<dyn Listener>)
        })
    }
}

/// Takes callers and lets each shake hands by itself: one that is slow holds up nobody.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, greeted: mpsc::Sender<Box<dyn Connection>>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection from another node could not be taken: {error}");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let (acceptor, greeted) = (acceptor.clone(), greeted.clone());
        runtime::spawn(async move {
            let _ = stream.set_nodelay(true);
            match timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                // Nobody takes it any more when this fails.
                Ok(Ok(stream)) => drop(greeted.send(Box::new(stream)).await),
                Ok(Err(error)) => tracing::debug!("another node was refused: {error}"),
                Err(_) => tracing::debug!("another node was too slow to show its certificate"),
            }
            drop(place);
        });
    }
}

struct TlsListener {
    greeted: mpsc::Receiver<Box<dyn Connection>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Listener for TlsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move { self.greeted.recv().await.ok_or_else(|| io::Error::other("nobody listens any more")) })
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::transport::Tcp;

    /// An authority, and the files of a node that it signed.
    fn files(folder: &Path, name: &str, authority: &Issuer<'_, KeyPair>, authority_pem: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let write = |kind: &str, text: &str| {
            let path = folder.join(format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            authority: write("authority.pem", authority_pem),
            certificate: write("certificate.pem", &certificate.pem()),
            key: write("key.pem", &key.serialize_pem()),
        }
    }

    fn authority() -> (Issuer<'static, KeyPair>, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    #[tokio::test]
    async fn nodes_with_certificates_of_one_authority_talk_and_others_are_not_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, ours_pem) = authority();
        let (theirs, theirs_pem) = authority();
        let one = Tls::read(&files(folder.path(), "one", &ours, &ours_pem)).unwrap();
        let two = Tls::read(&files(folder.path(), "two", &ours, &ours_pem)).unwrap();
        // Trusts our authority, but its own certificate is another's.
        let stranger = Tls::read(&files(folder.path(), "stranger", &theirs, &theirs_pem)).unwrap();
        let half = TlsFiles {
            authority: folder.path().join("one.authority.pem"),
            certificate: folder.path().join("stranger.certificate.pem"),
            key: folder.path().join("stranger.key.pem"),
        };
        let half = Tls::read(&half).unwrap();

        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut listener = one.listen(&free).await.unwrap();
        let echo = tokio::spawn(async move {
            let mut connection = listener.accept().await.unwrap();
            let mut bytes = [0; 5];
            connection.read_exact(&mut bytes).await.unwrap();
            connection.write_all(&bytes).await.unwrap();
            connection.flush().await.unwrap();
            listener
        });
        let mut connection = two.connect(&free).await.unwrap();
        connection.write_all(b"hello").await.unwrap();
        connection.flush().await.unwrap();
        let mut bytes = [0; 5];
        connection.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
        let mut listener = echo.await.unwrap();

        assert!(stranger.connect(&free).await.is_err(), "it does not trust us");
        // TLS 1.3 tells a client only afterwards that it was refused.
        for mut connection in [half.connect(&free).await.unwrap(), Tcp.connect(&free).await.unwrap()] {
            let _ = connection.write_all(b"let me in, I say").await;
            let _ = connection.flush().await;
        }
        let nobody = timeout(Duration::from_millis(300), listener.accept()).await;
        assert!(nobody.is_err(), "nobody else gets in");
    }
}
