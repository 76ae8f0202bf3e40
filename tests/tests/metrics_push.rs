//! Metrics that are sent: what arrives is the page, and a receiver that refuses, breaks or hangs is counted and felt by nobody.

use std::time::{Duration, Instant};

use tests::server::{Server, account_a, limit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The next page that is sent, and the connection it came over.
async fn receive(listener: &TcpListener) -> (TcpStream, String) {
    let receiving = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let length = |head: &str| -> Option<usize> {
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
            };
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && length(head).is_some_and(|length| body.len() >= length)
            {
                return (socket, text);
            }
            assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "{text}");
        }
    };
    tokio::time::timeout(PATIENCE, receiving).await.expect("a page is sent")
}

async fn answer(mut socket: TcpStream, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    socket.write_all(answer.as_bytes()).await.unwrap();
}

/// `pushes` and `push_failures` of the page, as soon as they are as wanted.
async fn counted_when(server: &Server, wanted: impl Fn([u64; 2]) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let page = server.get("/metrics").await.text;
        let value = |name: &str| -> u64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {page}")).parse().unwrap()
        };
        let counted = ["rialto_metrics_pushes_total", "rialto_metrics_push_failures_total"].map(value);
        if wanted(counted) {
            return;
        }
        assert!(Instant::now() < until, "{counted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_sent_and_a_receiver_that_fails_is_counted_and_felt_by_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics/job/rialto", listener.local_addr().unwrap());
    let server = Server::start(|config| {
        config.metrics.push_url = Some(url);
        config.metrics.push_interval_ms = 300;
    })
    .await;
    let (socket, page) = receive(&listener).await;
    assert!(page.starts_with("POST /metrics/job/rialto HTTP/1.1\r\n"), "{page}");
    assert!(page.contains("content-type: text/plain; version=0.0.4\r\n"), "{page}");
    assert!(page.contains("\nrialto_conserved 1\n") && page.contains("\nrialto_entry_commands_count "), "{page}");
    answer(socket, "202 Accepted").await;
    counted_when(&server, |[sent, failed]| (sent, failed) == (1, 0)).await;

    let (socket, _) = receive(&listener).await;
    answer(socket, "500 Internal Server Error").await;
    counted_when(&server, |[_, failed]| failed >= 1).await;
    let (socket, _) = receive(&listener).await;
    drop(socket);
    counted_when(&server, |[_, failed]| failed >= 2).await;
    // This one never answers; orders do not wait for it, and the next page comes nevertheless.
    let (hangs, _) = receive(&listener).await;
    server.order(&account_a(), &limit("BUY", "0.001", "50000")).await.good();
    counted_when(&server, |[_, failed]| failed >= 3).await;
    let (socket, page) = receive(&listener).await;
    assert!(page.contains("\nrialto_open_orders 1\n"), "a page is as things are when it is sent: {page}");
    answer(socket, "200 OK").await;
    counted_when(&server, |[sent, _]| sent >= 2).await;
    drop(hangs);
    // One that hangs does not hold up the stop either.
    let (_hangs, _) = receive(&listener).await;
    server.stop().await;
}
