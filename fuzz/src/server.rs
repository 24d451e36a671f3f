//! A server that answers by rote.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The client's preface.
const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// What a server writes when a request has come on a stream.
pub trait Answer: Fn(u32) -> Vec<u8> + Send + Sync + 'static {}
impl<A: Fn(u32) -> Vec<u8> + Send + Sync + 'static> Answer for A {}

/// Answers each request on a connection when its headers have come, until the client closes.
pub async fn answer_calls(mut connection: DuplexStream, answer: impl Answer) {
    // It ends with the connection.
    let _ = serve(&mut connection, answer).await;
}

async fn serve(connection: &mut DuplexStream, answer: impl Answer) -> std::io::Result<()> {
    connection.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await?;
    connection.read_exact(&mut [0; PREFACE]).await?;
    loop {
        let mut header = [0; HEADER];
        connection.read_exact(&mut header).await?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        connection.read_exact(&mut payload).await?;
        match kind {
            HEADERS => connection.write_all(&answer(u32::from_be_bytes([s0, s1, s2, s3]))).await?,
            SETTINGS if flags == 0 => connection.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0]).await?,
            PING if flags == 0 => {
                let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat();
                connection.write_all(&answer).await?;
            }
            // What a request has for a body is let go on.
            DATA if !payload.is_empty() => {
                let by = (payload.len() as u32).to_be_bytes();
                connection.write_all(&[&[0, 0, 4, 8, 0, 0, 0, 0, 0], &by[..]].concat()).await?;
            }
            _ => {}
        }
    }
}
