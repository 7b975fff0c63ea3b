//! Making connections: name resolution, source addresses, proxy, TLS.

use crate::config::OriginConfig;
use crate::connection::{Connection, Stream};
use crate::error::OriginError;
use base64::Engine;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use url::Url;

/// Bytes the kernel may hold for one connection: enough for a fast link with some delay.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Knows how to reach one host.
pub(crate) struct Connector {
    /// `scheme://host[:port]` for messages.
    pub(crate) shown: String,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    proxy: Option<Proxy>,
    sources: Vec<std::net::IpAddr>,
    next_source: AtomicUsize,
    timeout: Duration,
    #[cfg(feature = "fuzzing")]
    pub(crate) script: std::sync::OnceLock<crate::fuzzing::Script>,
}

struct Proxy {
    host: String,
    port: u16,
    authorization: Option<String>,
}

impl Connector {
    pub(crate) fn new(url: &Url, host: String, config: &OriginConfig) -> Result<Self, OriginError> {
        let secure = url.scheme() == "https";
        let tls = if secure { Some(Arc::new(tls_config(config)?)) } else { None };
        let port = url.port_or_known_default().unwrap_or(if secure { 443 } else { 80 });
        let proxy = config.proxy.as_deref().map(parse_proxy).transpose()?;
        let shown = format!("{}://{}", url.scheme(), authority(&host, port, secure));
        Ok(Self {
            shown,
            host,
            port,
            tls,
            proxy,
            sources: config.source_addresses.clone(),
            next_source: AtomicUsize::new(0),
            timeout: config.connect_timeout,
            #[cfg(feature = "fuzzing")]
            script: std::sync::OnceLock::new(),
        })
    }

    /// The `Host` header.
    pub(crate) fn authority(&self) -> String {
        authority(&self.host, self.port, self.tls.is_some())
    }

    /// What stands before the path in a request line: a plain-HTTP proxy wants the whole address.
    pub(crate) fn request_prefix(&self) -> String {
        if self.proxy.is_some() && self.tls.is_none() { format!("http://{}", self.authority()) } else { String::new() }
    }

    /// A header for the proxy itself, where it wants one and sees the request.
    pub(crate) fn proxy_authorization(&self) -> Option<&str> {
        if self.tls.is_some() { None } else { self.proxy.as_ref()?.authorization.as_deref() }
    }

    pub(crate) fn connect(&self, timeout: Duration) -> Result<Connection, OriginError> {
        #[cfg(feature = "fuzzing")]
        if let Some(script) = self.script.get() {
            return script.connect();
        }
        let timeout = timeout.min(self.timeout).max(Duration::from_millis(1));
        let (host, port) = self.proxy.as_ref().map_or((self.host.as_str(), self.port), |p| (p.host.as_str(), p.port));
        let mut socket = self.dial(host, port, timeout).map_err(|e| self.unreachable(&e))?;
        let Some(tls) = &self.tls else {
            return Ok(Connection::new(Stream::Plain(socket)));
        };
        socket.set_read_timeout(Some(timeout)).and_then(|()| socket.set_write_timeout(Some(timeout))).map_err(|e| self.unreachable(&e))?;
        if let Some(proxy) = &self.proxy {
            self.tunnel(&mut socket, proxy).map_err(|e| self.unreachable(&e))?;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|e| self.tls_failure(&e.to_string()))?;
        let session = ClientConnection::new(Arc::clone(tls), name).map_err(|e| self.tls_failure(&e.to_string()))?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|e| self.handshake_failure(&e))?;
        }
        Ok(Connection::new(Stream::Tls(Box::new(stream))))
    }

    fn dial(&self, host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
            match self.dial_address(address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn dial_address(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(source) = self.next_source(address) {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        // Loopback grows its own window; an explicit size would only cap it there.
        if !address.ip().is_loopback() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        socket.connect_timeout(&address.into(), timeout)?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    }

    /// Connections take turns among the source addresses of the family that they need.
    fn next_source(&self, to: SocketAddr) -> Option<IpAddr> {
        let fitting = || self.sources.iter().filter(|source| source.is_ipv4() == to.is_ipv4());
        let count = fitting().count();
        let turn = self.next_source.fetch_add(1, Relaxed);
        fitting().nth(turn.checked_rem(count)?).copied()
    }

    /// CONNECT, so that TLS goes through the proxy from end to end.
    fn tunnel(&self, socket: &mut TcpStream, proxy: &Proxy) -> io::Result<()> {
        let target = format!("{}:{}", self.host, self.port);
        let authorization = proxy.authorization.as_ref().map_or(String::new(), |a| format!("Proxy-Authorization: {a}\r\n"));
        socket.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").as_bytes())?;
        let mut plain = Connection::new(Stream::Plain(socket.try_clone()?));
        let head = plain.read_head()?;
        if head.status != 200 {
            return Err(io::Error::other(format!("the proxy answered {} to CONNECT", head.status)));
        }
        Ok(())
    }

    fn unreachable(&self, error: &io::Error) -> OriginError {
        let cause = match &self.proxy {
            Some(proxy) => format!("{error}, through the proxy {}:{} (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)", proxy.host, proxy.port),
            None => error.to_string(),
        };
        OriginError::Unreachable { endpoint: self.shown.clone(), cause }
    }

    /// What TLS itself refused stays refused; a connection that broke meanwhile is worth another try.
    fn handshake_failure(&self, error: &io::Error) -> OriginError {
        match error.kind() {
            io::ErrorKind::InvalidData => self.tls_failure(&error.to_string()),
            _ => OriginError::broken(error),
        }
    }

    fn tls_failure(&self, cause: &str) -> OriginError {
        OriginError::Tls { endpoint: self.shown.clone(), cause: cause.to_owned() }
    }
}

fn authority(host: &str, port: u16, secure: bool) -> String {
    if port == if secure { 443 } else { 80 } { host.to_owned() } else { format!("{host}:{port}") }
}

fn parse_proxy(text: &str) -> Result<Proxy, OriginError> {
    // The address may hold a password: it is not repeated in the message.
    let bad = || OriginError::BadSetting {
        setting: "proxy",
        detail: "it must look like http://host:port; check HTTPS_PROXY and HTTP_PROXY".to_owned(),
    };
    let url = Url::parse(text).map_err(|_| bad())?;
    let host = url.host_str().filter(|_| url.scheme() == "http").ok_or_else(bad)?.to_owned();
    let decode = |t: &str| percent_encoding::percent_decode_str(t).decode_utf8_lossy().into_owned();
    let authorization = (!url.username().is_empty()).then(|| {
        let pair = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or("")));
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    });
    Ok(Proxy { host, port: url.port_or_known_default().unwrap_or(80), authorization })
}

fn tls_config(config: &OriginConfig) -> Result<ClientConfig, OriginError> {
    let bad = |detail: String| OriginError::BadSetting { setting: "CA bundle", detail };
    let mut roots = RootCertStore::empty();
    match &config.ca_bundle {
        Some(path) => {
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|e| bad(format!("{}: {e}; check AWS_CA_BUNDLE", path.display())))?;
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
            if roots.is_empty() {
                return Err(bad(format!("{} holds no certificate; check AWS_CA_BUNDLE", path.display())));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|e| bad(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
