//! `alti curate` on several machines and its questions in SQL, as a person has them, in a build with the feature and in one
//! without it.

#[cfg(not(feature = "cluster"))]
#[test]
fn a_build_without_the_feature_says_so() {
    let place = crate::Place::new();
    for args in [
        &["curate", "pages", "--out", "o", "--cluster", "127.0.0.1:50050"][..],
        &["curate", "scheduler"],
        &["curate", "executor", "--scheduler", "127.0.0.1:50050"],
        &["curate", "sql", "select 1", "o"],
    ] {
        let said = place.fails(args, 2);
        assert!(said.contains("made without"), "{said}");
        assert!(said.contains("hint: build it with them") && said.contains("--features cluster"), "{said}");
    }
    assert!(!place.path("o").exists() && !place.path("o.work").exists());
}

#[cfg(feature = "cluster")]
mod with {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStderr, Stdio};

    use ledger::digest::Digest;

    use crate::{PATIENCE, Place, both};

    /// A part that runs; it is killed when it is dropped.
    struct Part(Child, BufReader<ChildStderr>);

    impl Part {
        fn start(place: &Place, args: &[&str]) -> Part {
            let mut command = place.command(args);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stderr.take().unwrap());
            Part(child, said)
        }

        /// The next line that holds this.
        fn says(&mut self, wanted: &str) -> String {
            let since = std::time::Instant::now();
            let mut all = String::new();
            loop {
                let mut line = String::new();
                assert!(self.1.read_line(&mut line).unwrap() > 0, "it ended, and said:\n{all}");
                assert!(since.elapsed() < PATIENCE, "{wanted} is missing in:\n{all}");
                if line.contains(wanted) {
                    return line;
                }
                all.push_str(&line);
            }
        }

        fn interrupt(mut self) {
            let id = self.0.id().to_string();
            assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
            assert!(self.0.wait().unwrap().success());
        }
    }

    impl Drop for Part {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn executors_curate_and_questions_are_answered() {
        let place = Place::new();
        let curate = ["curate", "pages", "--set", "curate.gopher_repetition.enabled=false", "--out"];
        place.run(&[&curate[..], &["calm", "--set", "curate.held_out.fraction=0.1"]].concat());

        let mut scheduler = Part::start(&place, &["curate", "scheduler", "--bind", "127.0.0.1:0"]);
        let address = scheduler.says("scheduler at ").trim().rsplit(' ').next().unwrap().to_owned();
        let executor =
            ["curate", "executor", "--scheduler", &address, "--bind", "127.0.0.1:0", "--slots", "1"];
        let executors = [Part::start(&place, &executor), Part::start(&place, &executor)];
        (0..2).for_each(|_| assert!(scheduler.says(" has come").contains("executor ")));
        let more = [
            "shared",
            "--set",
            "curate.held_out.fraction=0.1",
            "--cluster",
            &address,
            "--cluster-portion",
            "1kB",
        ];
        let said = place.run(&[&curate[..], &more].concat());
        assert!(said.contains("documents kept"), "{said}");
        let digest = |folder: &str| Digest::of_dir(&place.path(folder)).unwrap();
        assert_eq!(digest("shared"), digest("calm"));
        executors.into_iter().for_each(Part::interrupt);
        scheduler.interrupt();

        let ask = |query: &str, format: &str| {
            let output =
                place.command(&["curate", "sql", query, "calm", "--format", format]).output().unwrap();
            assert!(output.status.success(), "{}", both(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        let query = "select lang, count(*) as n from documents group by lang order by n desc, lang";
        let table = ask(query, "table");
        assert!(table.lines().next().unwrap().starts_with("lang") && table.contains("en "), "{table}");
        let csv = ask(query, "csv");
        assert!(csv.starts_with("lang,n\nen,"), "{csv}");
        let json: serde_json::Value =
            serde_json::from_str(ask(query, "json").lines().next().unwrap()).unwrap();
        assert!(json["lang"] == "en" && json["n"].as_u64().unwrap() > 0, "{json}");
        for (query, wanted) in
            [("select * from pages", "there are documents (id, text"), ("delete from documents", "hint:")]
        {
            let said = place.fails(&["curate", "sql", query, "calm"], 1);
            assert!(said.contains(wanted), "{said}");
        }
    }
}
