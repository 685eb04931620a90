//! The program `redial-lab`, which `cargo xtask` runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    redial_lab::main()
}
