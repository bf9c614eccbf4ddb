//! Compiles the wire's schema, without protoc.

use std::error::Error;

const FILES: [&str; 8] = [
    "descriptor.proto",
    "bundle.proto",
    "kad.proto",
    "record.proto",
    "store.proto",
    "streams.proto",
    "topics.proto",
    "frame.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let schema = protox::compile(FILES, ["proto"])?;
    // Bytes instead of Vec<u8>: a descriptor's signed body goes into a frame without a copy of its own.
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(schema)?;
    Ok(())
}
