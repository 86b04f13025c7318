//! A small client: one request a connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::PATIENCE;

/// A request on its way.
pub(super) struct Ask<'a> {
    address: &'a str,
    method: &'a str,
    path: &'a str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) bytes: Vec<u8>,
}

/// An answer that is still being read.
pub(super) struct Reading {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    stream: BufReader<TcpStream>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(address: &'a str, method: &'a str, path: &'a str) -> Self {
        Self {
            address,
            method,
            path,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn token(self, token: &str) -> Self {
        self.with("Authorization", &format!("Bearer {token}"))
    }

    pub(super) fn json(self, body: &Value) -> Self {
        self.with("Content-Type", "application/json")
            .body(body.to_string().as_bytes())
    }

    pub(super) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Parts of a form: name, file name if it is a file, contents.
    pub(super) fn form(self, parts: &[(&str, bool, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (name, file, bytes) in parts {
            let named = if *file { "; filename=\"a.png\"" } else { "" };
            let head = format!(
                "--border\r\nContent-Disposition: form-data; name=\"{name}\"{named}\r\n\r\n"
            );
            body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
        }
        body.extend(b"--border--\r\n");
        self.with("Content-Type", "multipart/form-data; boundary=border")
            .body(&body)
    }

    /// Sends it, and reads what is said before the body.
    pub(super) fn send(self) -> Reading {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (method, path, length) = (self.method, self.path, self.body.len());
        let given = |(name, value): &(String, String)| format!("{name}: {value}\r\n");
        let headers: String = self.headers.iter().map(given).collect();
        let named = headers.to_lowercase().contains("host: ");
        let host = if named { "X-Host" } else { "Host" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\n{host}: {}\r\n{headers}Content-Length: {length}\r\n\r\n",
            self.address
        );
        // A server may have answered before it has read everything.
        let _ = stream.write_all(&[head.as_bytes(), &self.body].concat());
        Reading::begin(stream)
    }

    pub(super) fn answer(self) -> Answer {
        self.send().whole()
    }
}

impl Reading {
    fn begin(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let first = line(&mut stream).expect("an answer");
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        while let Some((name, value)) = line(&mut stream)
            .as_deref()
            .and_then(|line| line.split_once(": "))
        {
            headers.push((name.to_owned(), value.to_owned()));
        }
        Self {
            status: status.expect("a status"),
            headers,
            stream,
        }
    }

    fn is_chunked(&self) -> bool {
        self.headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked")
    }

    /// The next chunk.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&line(&mut self.stream)?, 16).ok()?;
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).ok()?;
        bytes.truncate(length);
        (length > 0).then_some(bytes)
    }

    fn whole(mut self) -> Answer {
        let mut bytes = Vec::new();
        if self.is_chunked() {
            while let Some(chunk) = self.chunk() {
                bytes.extend(chunk);
            }
        } else {
            let _ = self.stream.read_to_end(&mut bytes);
        }
        Answer {
            status: self.status,
            headers: self.headers,
            bytes,
        }
    }

    /// The next event, by its name, with its data.
    pub(super) fn event(&mut self) -> Option<(String, Value)> {
        loop {
            let text = String::from_utf8(self.chunk()?).expect("UTF-8");
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                return Some((name.to_owned(), serde_json::from_str(data).expect("JSON")));
            }
        }
    }

    /// All events to the end.
    pub(super) fn events(mut self) -> Vec<(String, Value)> {
        std::iter::from_fn(|| self.event()).collect()
    }
}

fn line(stream: &mut impl BufRead) -> Option<String> {
    let mut text = String::new();
    let read = stream.read_line(&mut text).ok()?;
    (read > 0).then(|| text.trim_end().to_owned())
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    #[track_caller]
    pub(super) fn body(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}
