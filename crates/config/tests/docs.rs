//! The page of all statements is the schema's.

#[test]
fn the_page_of_statements_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/statements.md");
    let page = config::schema::statements_page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(file).parent().unwrap()).unwrap();
        std::fs::write(file, &page).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        written == page,
        "docs/statements.md is not what the schema says: run `UPDATE_DOCS=1 cargo test -p config --test docs`"
    );
}
