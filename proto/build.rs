//! Compiles `dih/v1/*.proto` and `onnx/onnx.proto` without a system protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=dih");
    let files = ["upload", "image", "verdict", "dataset", "dead"].map(|name| format!("dih/v1/{name}.proto"));
    let descriptors = protox::compile(files, [Path::new(".")])?;
    // Ordered maps: equal messages have equal bytes. `Bytes`: a photo inside a message is not copied out of it.
    prost_build::Config::new().btree_map(["."]).bytes(["."]).compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=onnx");
    let onnx = protox::compile(["onnx/onnx.proto"], [Path::new(".")])?;
    prost_build::Config::new().bytes(["."]).compile_fds(onnx)?;
    Ok(())
}
