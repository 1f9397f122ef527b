//! Compiles the .proto files, in Rust: nobody needs to install protoc.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 5] = ["common", "enrolment", "studies", "rounds", "audit"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=consilium");
    let paths = FILES.map(|name| format!("consilium/v1/{name}.proto"));
    let descriptors = protox::compile(paths, ["."])?;
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(folder.join("consilium.v1.bin"), descriptors.encode_to_vec())?;
    let rpc = env::var_os("CARGO_FEATURE_RPC").is_some();
    tonic_prost_build::configure()
        .build_client(rpc)
        .build_server(rpc)
        .bytes(".consilium.v1.Chunk.data")
        .compile_fds(descriptors)?;
    Ok(())
}
