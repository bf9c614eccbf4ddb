//! The `weft` command as the tests run it: the same function that the binary of package `weft` calls.
fn main() {
    weft::main_placeholder();
}
