//! Questions in SQL to a curated folder.

use std::io;
use std::path::Path;

use cluster::{Answer, Error, SqlOptions, sql};
use serde_json::{Value, json};

#[derive(Default)]
struct Held {
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<Value>>,
}

impl Answer for Held {
    fn columns(&mut self, columns: &[(String, bool)]) -> io::Result<()> {
        self.columns = columns.to_vec();
        Ok(())
    }
    fn row(&mut self, row: Vec<Value>) -> io::Result<()> {
        self.rows.push(row);
        Ok(())
    }
}

fn ask(folder: &Path, query: &str) -> Result<Held, Error> {
    let mut held = Held::default();
    sql(&SqlOptions { folder, query, memory: 500_000_000 }, &mut held).map(|()| held)
}

pub fn answered() {
    let place = tempfile::tempdir().unwrap();
    super::pages::write(&place.path().join("in"), 12);
    let funnel = super::curate(place.path(), "a [b]*", None, None).unwrap();
    // A name that would be a pattern.
    let folder = place.path().join("a [b]*");
    let ask = |query: &str| ask(&folder, query);

    let counted = ask("select count(*) as n, sum(octet_length(text)) as bytes from documents").unwrap();
    assert_eq!(counted.columns, [("n".to_owned(), true), ("bytes".to_owned(), true)]);
    assert_eq!(counted.rows, [vec![json!(funnel.train.documents), json!(funnel.train.bytes)]]);
    let held_out = ask("select count(*) from heldout").unwrap();
    assert_eq!(held_out.rows, [vec![json!(funnel.held_out.documents)]]);
    let grouped = ask("select lang, count(*) from documents group by lang order by 2 desc").unwrap();
    assert_eq!(grouped.rows[0][0], json!("en"), "{:?}", grouped.rows);
    let twice = ask("select id, id as i, url from documents where url is null order by id limit 2").unwrap();
    assert!(twice.rows.len() == 2 && twice.rows[0][0] == twice.rows[0][1] && twice.rows[0][2].is_null());
    let removed =
        ask("select step, reason, \"limit\", text from removed where step = 'gopher_quality'").unwrap();
    assert!(
        !removed.rows.is_empty() && removed.rows.iter().all(|row| row[2].is_number()),
        "{:?}",
        removed.rows
    );
    assert!(ask("describe documents").unwrap().rows.iter().any(|row| row[0] == json!("lang_score")));

    let refused = |query: &str, reason: &str, hint: &str| {
        let Err(error) = ask(query) else { panic!("{query} is answered") };
        let (said, remedy) = (error.to_string(), error.hint().unwrap_or_default());
        assert!(said.contains(reason) && remedy.contains(hint), "{query}: {said}\n{remedy}");
    };
    refused("select * from pages", "table 'pages' not found", "documents (id, text, url");
    refused("select titel from documents", "titel", "heldout (id, text, url");
    refused("selekt 1", "selekt", "write SQL such as");
    refused("drop table documents", "not supported", "not changed");
    refused("copy documents to '/tmp/x.parquet'", "not supported", "not changed");
    refused("create table t as select 1", "not supported", "not changed");
    let options =
        SqlOptions { folder: &folder, query: "select text from documents order by text", memory: 1_000 };
    match sql(&options, &mut Held::default()) {
        Err(error @ Error::Query { .. }) => assert!(error.hint().unwrap().contains("--memory"), "{error}"),
        other => panic!("{other:?}"),
    }
    match sql(
        &SqlOptions { folder: place.path(), query: "select 1", memory: 100_000_000 },
        &mut Held::default(),
    ) {
        Err(error @ Error::NoDocuments { .. }) => assert!(error.hint().is_some()),
        other => panic!("{other:?}"),
    }
}
