//! Metrics that are sent: what arrives is the page, and a receiver that refuses, breaks or hangs is counted and felt by nobody.

use std::time::{Duration, Instant};

use tests::server::{Server, account_a, limit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a receiver does with a page.
#[derive(Clone, Copy)]
enum Mood {
    Takes,
    Refuses,
    Breaks,
    Hangs,
}

/// Takes pages in the mood that it is told, and tells the last one.
async fn receive(listener: TcpListener, mood: watch::Receiver<Mood>, last: watch::Sender<String>) {
    let mut hanging = Vec::new();
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let Some(page) = read(&mut socket).await else { continue };
        let status = match *mood.borrow() {
            Mood::Takes => "202 Accepted",
            Mood::Refuses => "500 Internal Server Error",
            Mood::Breaks => continue,
            Mood::Hangs => {
                hanging.push(socket);
                last.send_replace(page);
                continue;
            }
        };
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        // Who waited too long has gone.
        let _ = socket.write_all(answer.as_bytes()).await;
        last.send_replace(page);
    }
}

/// A whole request; none where the sender gave up.
async fn read(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let length = |head: &str| -> Option<usize> {
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
        };
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && length(head).is_some_and(|length| body.len() >= length)
        {
            return Some(text);
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Pages taken and not taken, as soon as they are as wanted.
async fn counted_when(server: &Server, wanted: impl Fn([u64; 2]) -> bool) -> [u64; 2] {
    let until = Instant::now() + PATIENCE;
    loop {
        let page = server.get("/metrics").await.text;
        let value = |name: &str| -> u64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {page}")).parse().unwrap()
        };
        let counted = ["rialto_metrics_pushes_total", "rialto_metrics_push_failures_total"].map(value);
        if wanted(counted) {
            return counted;
        }
        assert!(Instant::now() < until, "{counted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_sent_and_a_receiver_that_fails_is_counted_and_felt_by_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics/job/rialto", listener.local_addr().unwrap());
    let (mood, told) = watch::channel(Mood::Takes);
    let (last, mut page) = watch::channel(String::new());
    let receiving = tokio::spawn(receive(listener, told, last));
    let server = Server::start(|config| {
        config.metrics.push_url = Some(url);
        config.metrics.push_interval_ms = 200;
    })
    .await;
    counted_when(&server, |[sent, _]| sent >= 2).await;
    let first = page.borrow_and_update().clone();
    assert!(first.starts_with("POST /metrics/job/rialto HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("content-type: text/plain; version=0.0.4\r\n"), "{first}");
    assert!(first.contains("\nrialto_conserved 1\n") && first.contains("\nrialto_entry_commands_count "), "{first}");

    for bad in [Mood::Refuses, Mood::Breaks, Mood::Hangs] {
        let [_, before] = counted_when(&server, |_| true).await;
        mood.send_replace(bad);
        // Orders do not wait for it, and the next page is sent nevertheless.
        server.order(&account_a(), &limit("BUY", "0.001", "50000")).await.good();
        counted_when(&server, |[_, failed]| failed >= before + 2).await;
    }
    let [before, _] = counted_when(&server, |_| true).await;
    mood.send_replace(Mood::Takes);
    counted_when(&server, |[sent, _]| sent > before).await;
    let is_new = |page: &String| page.contains("\nrialto_open_orders 3\n");
    tokio::time::timeout(PATIENCE, page.wait_for(is_new))
        .await
        .expect("a page is as things are when it is sent")
        .unwrap();
    // One that hangs does not hold up the stop either.
    mood.send_replace(Mood::Hangs);
    server.stop().await;
    receiving.abort();
}
