//! The few words of HTTP that a scrape and the dashboard need, on one tokio thread of its own.
//!
//! Always true: only GET is answered, a request's head is bounded, nothing of the request reaches the file
//! system, and a slow client is dropped. Called by `main` for the Prometheus endpoint and for `view`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest head of a request.
const HEAD_LEN_BYTES_MAX: usize = 8 << 10;
/// Longest time for a request and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer: its type and its bytes.
pub type Answer = (&'static str, Vec<u8>);
/// Gives the answer for a path, or `None` for one that does not exist.
pub type Pages = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// Serves on an address until the process ends; gives the bound address (port 0 takes a free one).
///
/// # Errors
/// When the address cannot be bound or the thread cannot be started.
pub fn serve(address: SocketAddr, pages: Pages) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let pages = pages.clone();
                        tokio::spawn(async move {
                            // A client that left or was too slow needs no answer.
                            let _ = tokio::time::timeout(PATIENCE, answer(stream, pages)).await;
                        });
                    }
                    // Out of descriptors: the next attempt may succeed.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
    })?;
    Ok(bound)
}

async fn answer(mut stream: TcpStream, pages: Pages) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() > HEAD_LEN_BYTES_MAX {
            return reply(
                &mut stream,
                "431 Request Header Fields Too Large",
                "text/plain",
                b"too long",
            )
            .await;
        }
        let mut chunk = [0; 2048];
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != "GET" {
        return reply(&mut stream, "405 Method Not Allowed", "text/plain", b"only GET").await;
    }
    let path = target.split('?').next().unwrap_or_default();
    match pages(path) {
        Some((kind, body)) => reply(&mut stream, "200 OK", kind, &body).await,
        None => reply(&mut stream, "404 Not Found", "text/plain", b"no such page").await,
    }
}

async fn reply(
    stream: &mut TcpStream,
    status: &str,
    kind: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn pages_are_served_and_everything_else_is_refused() {
        let pages: Pages =
            Arc::new(|path| (path == "/metrics").then(|| ("text/plain", b"x 1\n".to_vec())));
        let address = serve("127.0.0.1:0".parse().unwrap(), pages).unwrap();
        assert!(
            ask(address, b"GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n\r\n")
                .ends_with("\r\n\r\nx 1\n")
        );
        assert!(ask(address, b"GET /../etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 9000]].concat();
        assert!(ask(address, &endless).starts_with("HTTP/1.1 431"));
    }
}
