//! The program `redial`.

use std::process::ExitCode;

fn main() -> ExitCode {
    redial_cli::run()
}
