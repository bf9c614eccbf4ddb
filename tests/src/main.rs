//! The `weft` binary again, as a binary of this package: cargo tells tests only of their own package's.
fn main() -> std::process::ExitCode {
    weft::main()
}
