//! The JSON Schema of a profile, for editors.

use schemars::generate::SchemaSettings;

use super::raw::Profile;

/// The JSON Schema of a profile (draft 2020-12) as indented JSON with a final newline.
///
/// `profiles/schema.json` is a copy of it; profiles name it in their first line, so that editors
/// with a YAML language server complete and check them.
pub fn schema() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Profile>();
    format!("{:#}\n", schema.as_value())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schema_in_the_tree_is_the_generated_one() {
        let kept = include_str!("../../profiles/schema.json");
        assert!(
            kept == super::schema(),
            "profiles/schema.json is stale; run: cargo run -- generate schema > profiles/schema.json"
        );
    }
}
