//! The smallest HTTP/2 client that will do: one request without TLS, its pseudo-headers as they are given.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::LIMIT;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (RFC 9113, 6), and the flag of the last frame of a stream.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
/// This, and no continuation.
const WHOLE_HEADERS: u8 = END_STREAM | 4;

/// The status and the body of the answer; status 0 where the stream or the connection is refused.
pub fn ask(entrance: SocketAddr, fields: &[(&str, &str)]) -> (u16, String) {
    let mut stream = TcpStream::connect(entrance).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal that is never indexed, without Huffman coding (RFC 7541, 6.2.2).
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(text.as_bytes());
        }
    }
    let mut bytes = PREFACE.to_vec();
    frame(SETTINGS, 0, 0, &[], &mut bytes);
    frame(HEADERS, WHOLE_HEADERS, 1, &block, &mut bytes);
    stream.write_all(&bytes).unwrap();
    let (mut status, mut body) = (0, Vec::new());
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let size = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; size];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            HEADERS => status = status_of(&payload),
            DATA => body.extend(payload),
            RST_STREAM | GOAWAY => break,
            _ => {}
        }
        if matches!(head[3], HEADERS | DATA) && head[4] & END_STREAM != 0 {
            break;
        }
    }
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn frame(kind: u8, flags: u8, number: u8, payload: &[u8], out: &mut Vec<u8>) {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend([size[1], size[2], size[3], kind, flags, 0, 0, 0, number]);
    out.extend(payload);
}

/// An integer with a prefix of 7 bits (RFC 7541, 5.1).
fn length(mut size: usize, out: &mut Vec<u8>) {
    if size < 127 {
        out.push(u8::try_from(size).unwrap());
        return;
    }
    out.push(127);
    size -= 127;
    while size >= 128 {
        out.push(u8::try_from(size % 128).unwrap() | 128);
        size /= 128;
    }
    out.push(u8::try_from(size).unwrap());
}

/// HAProxy sends the status first: by its index in the static table, or as three digits.
fn status_of(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [index @ 0x88..=0x8e, ..] => INDEXED[usize::from(index - 0x88)],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            let digits = String::from_utf8_lossy(&digits[..3]).into_owned();
            digits.parse().unwrap()
        }
        other => panic!("{other:02x?}"),
    }
}
