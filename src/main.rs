//! The `afterimage` program.

fn main() -> std::process::ExitCode {
    afterimage::cli::main()
}
