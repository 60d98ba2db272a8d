//! The server's own certificate: HTTP/1.1 and HTTP/2 over it, silence within a handshake, and a certificate that is
//! changed while the server runs.

use std::{path::Path, process::Stdio, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use steerage::{Config, config};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    TestServer,
    client::{read_head, send},
    folder::Folder,
};

/// Writes a fresh certificate for `steerage.test` and its key.
fn certify(folder: &Path) -> (config::Tls, Vec<u8>) {
    std::fs::create_dir_all(folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["steerage.test".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (config::Tls { cert, key }, made.cert.der().to_vec())
}

/// A client that trusts `der` and offers `alpn`.
fn client(der: &[u8], alpn: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(der.to_vec().into()).unwrap();
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn name() -> ServerName<'static> {
    "steerage.test".try_into().unwrap()
}

fn start(tls: config::Tls) -> TestServer {
    TestServer::configured(Config { tls: Some(tls), ..Config::in_memory() }, |server| server)
}

async fn shake(server: &TestServer, der: &[u8], alpn: &[&str]) -> TlsStream<DuplexStream> {
    client(der, alpn).connect(name(), server.dialer.connect()).await.expect("a handshake")
}

#[tokio::test]
async fn alpn_chooses_what_is_spoken() {
    let folder = Folder::new();
    let (files, der) = certify(folder.path());
    let server = start(files);
    for offered in [&["http/1.1"][..], &[]] {
        let mut stream = shake(&server, &der, offered).await;
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        send(&mut stream, "GET", "/healthz", &[], b"", true).await;
        assert_eq!(read_head(&mut stream).await.0, 200);
    }
    let stream = shake(&server, &der, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut http2, connection) = h2::client::handshake(stream).await.unwrap();
    let request = axum::http::Request::get("https://steerage.test/healthz").body(()).unwrap();
    let asked = async { http2.send_request(request, true).unwrap().0.await.unwrap().status() };
    tokio::select! {
        status = asked => assert_eq!(status, 200),
        ended = connection => panic!("{ended:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_silent_or_speaks_plainly_is_closed() {
    let folder = Folder::new();
    let (files, der) = certify(folder.path());
    let server = start(files);
    let mut silent = server.dialer.connect();
    let since = Instant::now();
    silent.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(since.elapsed().as_secs(), 5, "the handshake has its bound");

    let mut silent = shake(&server, &der, &["h2"]).await;
    let since = Instant::now();
    let _without_goodbye = silent.read_to_end(&mut Vec::new()).await;
    assert_eq!(since.elapsed().as_secs(), 5, "and so have the first bytes after it");

    let mut plain = server.dialer.connect();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: steerage.test\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).await.unwrap();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (folder, other) = (Folder::new(), Folder::new());
    let (files, _) = certify(folder.path());
    let (others, _) = certify(other.path());
    let refused = |cert: &Path, key: &Path| {
        let tls = Some(config::Tls { cert: cert.to_owned(), key: key.to_owned() });
        let refused = steerage::Server::new(Config { tls, ..Config::in_memory() }).err();
        refused.expect("it is refused").to_string()
    };
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    assert!(refused(&folder.path().join("none"), &files.key).contains("none"));
    assert!(refused(&empty, &files.key).contains("empty.pem"));
    assert!(refused(&files.cert, &empty).contains("empty.pem"));
    assert!(refused(&files.cert, &files.cert).contains("cert.pem"));
    assert!(refused(&files.cert, &others.key).contains("cert.pem"), "they do not belong together");
}

/// The real program: signals are a process's.
#[tokio::test]
async fn sighup_reads_the_certificate_again_and_keeps_one_that_works() {
    let folder = Folder::new();
    let (files, first) = certify(folder.path());
    let mut server = Command::new(env!("CARGO_BIN_EXE_steerage"))
        .args(["--store", "memory", "--listen", "127.0.0.1:0", "--tls-cert"])
        .args([&files.cert, Path::new("--tls-key"), &files.key])
        .env("STEERAGE_LOG", "steerage=info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut greeting = BufReader::new(server.stdout.take().unwrap()).lines();
    let greeting = greeting.next_line().await.unwrap().unwrap();
    let address =
        greeting.split("https://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address").to_owned();
    let shakes =
        async |der: &[u8]| client(der, &[]).connect(name(), TcpStream::connect(&address).await.unwrap()).await.is_ok();
    let mut logs = BufReader::new(server.stderr.take().unwrap()).lines();
    let mut hang_up = async |says: &str| {
        let pid = server.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().await.unwrap().success());
        let heard = async {
            while let Some(line) = logs.next_line().await.unwrap() {
                if line.contains(says) {
                    return;
                }
            }
            panic!("the logs end without {says:?}");
        };
        timeout(Duration::from_secs(30), heard).await.expect("it is heard");
    };
    assert!(shakes(&first).await);
    let (_, second) = certify(folder.path());
    assert!(shakes(&first).await && !shakes(&second).await, "nobody has asked for it yet");
    hang_up("read again").await;
    assert!(!shakes(&first).await && shakes(&second).await);
    std::fs::write(&files.cert, "no certificate").unwrap();
    hang_up("the one before stays").await;
    assert!(shakes(&second).await);
}
