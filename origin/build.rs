//! Lists the migrations for `src/store/database/migrations.rs`, so that a new one is a new file.
//!
//! `migrations/<schema>/<version>_<name>.sql` is for both engines; `<version>_<name>.<engine>.sql` is for one.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=migrations");
    let mut source = String::new();
    for schema in ["auth", "users"] {
        for engine in ["sqlite", "postgres"] {
            list(&mut source, schema, engine)?;
        }
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("migrations.rs"), source)?;
    Ok(())
}

/// Writes the constant of one schema and engine.
fn list(source: &mut String, schema: &str, engine: &str) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("migrations").join(schema);
    let mut files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    files.sort();
    let mut version = 0_u16;
    writeln!(source, "const {}_{}: Migrations = &[", engine.to_uppercase(), schema.to_uppercase())?;
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.strip_suffix(".sql").ok_or_else(|| format!("{name} is not a migration"))?;
        let (stem, only) = stem.split_once('.').unwrap_or((stem, engine));
        if only != engine {
            continue;
        }
        version = version.saturating_add(1);
        let name = stem.strip_prefix(&format!("{version:04}_")).ok_or_else(|| {
            format!("{schema}/{name}: the versions for {engine} must be 0001, 0002 and so on; this is number {version}")
        })?;
        writeln!(source, "    ({name:?}, include_str!({file:?})),")?;
    }
    writeln!(source, "];")?;
    Ok(())
}
