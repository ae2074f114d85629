//! Copies the C API's headers, generated for this feature set, to where Meson's include path looks.
use std::{env, fs, io, path::Path};

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=WH_ENGINE_INCLUDE");
    if let (Ok(from), Ok(to)) = (env::var("DEP_WASMTIME_C_API_INCLUDE"), env::var("WH_ENGINE_INCLUDE")) {
        copy_tree(Path::new(&from), Path::new(&to))?;
    }
    Ok(())
}
