//! A bare echo of frames: what the same bytes cost without a word of JSON being read.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use clap::Parser;
use redial_bench::{cpu, flags::whole};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How much is read at once, as by the server.
const READ_BYTES: usize = 64 * 1024;

const HEADER_BYTES: usize = 4;

/// Sends every frame back as it is, those of one read in one write.
///
/// The first line on stdout is `listening on ADDR`. Ends when it is killed.
#[derive(Debug, Parser)]
#[command(name = "bench-echo", version)]
struct Args {
    /// Address to listen on; port 0 lets the system choose one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Run on this core only
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0, 1023), allow_negative_numbers = true)]
    core: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.core.map(cpu::pin).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(serve(args.listen))
}

async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

/// A connection to its end.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let mut out = Vec::with_capacity(READ_BYTES);
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let mut rest = &buffer[..filled];
        while let Some(length) = whole_frame(rest)? {
            out.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
        }
        let left = rest.len();
        buffer.copy_within(filled - left..filled, 0);
        filled = left;
        stream.write_all(&out).await?;
        out.clear();
    }
}

/// The length of the first frame with its header, if it is there as a whole.
fn whole_frame(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = HEADER_BYTES + u32::from_be_bytes(*header) as usize;
    if length > READ_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((length <= bytes.len()).then_some(length))
}
