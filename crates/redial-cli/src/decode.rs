//! `redial decode`: frames explained, from a file, a capture of the network, or standard input.

mod explain;
mod packet;
mod pcap;
mod pcapng;
mod stream;
mod tcp;

use std::{
    fs,
    io::{Read, stdin},
    path::PathBuf,
    process::ExitCode,
};

use self::{
    explain::Explained,
    stream::{Frames, Piece},
};
use crate::{
    failure::{Exit, Failure},
    flags::{PORTS, whole},
    output::{self, Reader},
};

/// What to explain.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FILE holds frames (a 4-byte length before each message), messages as lines of
JSON, or packets as tcpdump and Wireshark write them (pcap and pcapng).

Exit codes: 0 all of it was explained, 1 some of it is no message, 2 usage")]
pub(crate) struct DecodeArgs {
    /// The file, or - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Of a capture, only what goes to this port or comes from it
    #[arg(long, value_name = "N", value_parser = whole::<u16>(PORTS))]
    port: Option<u16>,
    /// Print a line of JSON for each message
    #[arg(long)]
    json: bool,
    /// Show params and results whole, not their first 200 bytes
    #[arg(long)]
    full: bool,
}

impl DecodeArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let bytes = self.read()?;
        let pieces = self.pieces(&bytes)?;
        if pieces.is_empty() {
            return Err(self.refuse("there is no frame in it"));
        }
        let mut has_problem = false;
        'read: for (number, piece) in (1..).zip(&pieces) {
            for explained in explain::piece(piece) {
                has_problem |= explained.is_problem();
                if self.print(number, piece, explained)? == Reader::HasGone {
                    break 'read;
                }
            }
        }
        let exit = if has_problem { Exit::Failed } else { Exit::Ok };
        Ok(exit.into())
    }

    /// The messages in the order in which they came, and what is no message.
    fn pieces(&self, bytes: &[u8]) -> Result<Vec<Piece>, Failure> {
        if pcap::is_one(bytes) || pcapng::is_one(bytes) {
            return tcp::pieces(bytes, self.port).map_err(|why| self.refuse(&why));
        }
        if self.port.is_some() {
            return Err(self.refuse("no capture; expected one with --port"));
        }
        if let Some(b'{' | b'[') = bytes.trim_ascii_start().first() {
            let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let lines = lines.filter(|line| !line.is_empty());
            return Ok(lines.map(|line| Piece::message(line.to_vec())).collect());
        }
        let mut frames = Frames::from_the_start();
        let mut pieces = frames.push(bytes);
        pieces.extend(frames.finish());
        Ok(pieces)
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = if self.file.as_os_str() == "-" {
            stdin().read_to_end(&mut bytes).map(drop)
        } else {
            fs::read(&self.file).map(|read| bytes = read)
        };
        read.map_err(|error| self.refuse(&error.to_string()))?;
        Ok(bytes)
    }

    fn refuse(&self, why: &str) -> Failure {
        let name = if self.file.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            self.file.display().to_string()
        };
        Failure::usage(format!("FILE, {name}: {why}"))
    }

    fn print(&self, number: u64, piece: &Piece, explained: Explained) -> Result<Reader, Failure> {
        if self.json {
            return output::print(&explained.into_json(number, piece));
        }
        let mut head = format!("#{number} ");
        for part in [&piece.at, &piece.way].into_iter().flatten() {
            head += &format!("{part}, ");
        }
        if let Ok(message) = &piece.content {
            head += &format!("{} bytes, ", message.len());
        }
        output::show(&explained.as_text(&head, self.full))
    }
}
