//! The `weft` binary; all of it is in the library, so that other packages' tests can build the same binary.
fn main() -> std::process::ExitCode {
    weft::main()
}
