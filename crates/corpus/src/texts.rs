//! The texts of sources as a stream, uncurated: what tokenizers are trained on and compared by. A stream can be continued
//! at any record that it reached before; what is done with the texts is not decided here.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ledger::progress::Task;
use serde::Serialize;

use crate::batch::Record;
use crate::funnel::SkippedInput;
use crate::kind::{self, Class, Kind};
use crate::location::State;
use crate::read::{self, Flow, Sink};
use crate::source::{self, Input, Source};
use crate::steps::extract::main_text;
use crate::steps::words;
use crate::{Error, Settings};

/// A text of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// The text; of a page its main text.
    pub text: String,
    /// The index of its source.
    pub source: usize,
    /// Where it stands: the file and, where that holds many, the line, the row or the byte.
    pub place: String,
    /// Where it can be read online.
    pub url: Option<String>,
    /// Its language as the source gives it.
    pub language: Option<String>,
    /// What kind of text it is.
    pub kind: Kind,
    /// The input it is from.
    pub input: u64,
    /// Records of this input up to it, itself among them: where the stream goes on after it.
    pub records: u64,
}

impl Text {
    /// Whether it is prose, which has a language; code and data have none.
    pub fn is_prose(&self) -> bool {
        !matches!(self.kind.class, Class::Code | Class::Data)
    }
}

/// Where texts go. `Break` ends the stream.
pub trait TextSink {
    /// A text.
    fn text(&mut self, text: Text) -> ControlFlow<()>;
    /// Something left out, as unreadable, malformed or without text: its place and the reason.
    fn skip(&mut self, place: String, reason: String) -> ControlFlow<()>;
    /// So many inputs were read to their ends.
    fn inputs_done(&mut self, inputs: u64) -> ControlFlow<()>;
}

/// What tells whether a file is still the same, without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its path, links resolved, or its address.
    pub path: PathBuf,
    /// The index of its source.
    pub source: usize,
    /// Its length.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since 1970; none where the file system does not say.
    pub modified: Option<u64>,
    /// What an object store calls its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// The files of sources, in the order in which they are read.
pub struct Texts {
    settings: Settings,
    inputs: Vec<(usize, Input)>,
    skipped: Vec<SkippedInput>,
    ignored: BTreeMap<String, u64>,
}

impl Texts {
    /// Finds the files of `sources`, by the settings that say how files are found and cut: the folder of the registry,
    /// hidden files, the lengths of parts and of single documents. A file that two sources name is the first one's. What
    /// lies in the folders `without`, such as the one that is about to be written, is none.
    ///
    /// # Errors
    /// [`Error::Settings`]; [`Error::NothingReadable`] when there is no file of a kind that is read; [`Error::Store`] where an
    /// object store cannot be listed.
    pub fn find(sources: &[Source], settings: &Settings, without: &[&Path]) -> Result<Texts, Error> {
        settings.validate()?;
        let mut texts = Texts {
            settings: settings.clone(),
            inputs: Vec::new(),
            skipped: Vec::new(),
            ignored: BTreeMap::new(),
        };
        let mut seen = HashSet::new();
        let without: Vec<PathBuf> = without.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
        for (index, source) in sources.iter().enumerate() {
            let found = source::expand(std::slice::from_ref(source), settings)?;
            for input in found.inputs {
                let path = input.location.place();
                if !without.iter().any(|folder| path.starts_with(folder)) && seen.insert(path) {
                    texts.inputs.push((index, input));
                }
            }
            texts.skipped.extend(found.skipped);
            for (kind, count) in found.ignored {
                *texts.ignored.entry(kind).or_default() += count;
            }
        }
        if texts.inputs.is_empty() {
            let names: Vec<String> = sources.iter().map(Source::to_string).collect();
            return Err(Error::NothingReadable {
                sources: names.join(", "),
                skipped: texts.skipped.len() as u64,
                details: texts.details(),
            });
        }
        Ok(texts)
    }

    fn details(&self) -> String {
        let mut details = String::new();
        if let Some(input) = self.skipped.first() {
            details = format!(", first {}: {}", input.place, input.reason);
        }
        if !self.ignored.is_empty() {
            let kinds: Vec<String> =
                self.ignored.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            details.push_str(&format!(", files of kinds that are not read: {}", kinds.join(", ")));
        }
        details
    }

    /// How many files there are.
    pub fn inputs(&self) -> u64 {
        self.inputs.len() as u64
    }

    /// Bytes of the files, as they are packed.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|(_, input)| input.bytes).sum()
    }

    /// Bytes of the first so many files.
    pub fn bytes_before(&self, inputs: u64) -> u64 {
        self.inputs.iter().take(inputs as usize).map(|(_, input)| input.bytes).sum()
    }

    /// Sources that could not be found or listed, with the reason.
    pub fn skipped(&self) -> &[SkippedInput] {
        &self.skipped
    }

    /// The files, by which a caller tells whether they have changed.
    pub fn origins(&self) -> Vec<Origin> {
        let origin = |(source, input): &(usize, Input)| {
            let State { place: path, modified, etag } = input.location.state();
            Origin { path, source: *source, bytes: input.bytes, modified, etag }
        };
        self.inputs.iter().map(origin).collect()
    }

    /// Reads on from the record `records` of the input `input`, to the end or until the sink breaks. The task is told
    /// the bytes read, those of records passed over too.
    ///
    /// # Errors
    /// [`Error::Store`] where an object cannot be read for now. What went to the sink stands, and reading can go on there.
    pub fn read(
        &self,
        input: u64,
        records: u64,
        task: &dyn Task,
        sink: &mut dyn TextSink,
    ) -> Result<ControlFlow<()>, Error> {
        for (index, (source, file)) in self.inputs.iter().enumerate().skip(input as usize) {
            let index = index as u64;
            let pass_over = if index == input { records } else { 0 };
            let mut numbered = Numbered { source: *source, input: index, seen: 0, pass_over, sink };
            if read::read(file, &self.settings, task, &mut numbered)?.is_break()
                || sink.inputs_done(index + 1).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// How many words a text has: what lies between spaces, and each character of a script that is written without them.
pub fn count_words(text: &str) -> usize {
    words::words(text).count()
}

/// Numbers the records of an input, and passes over the first.
struct Numbered<'a> {
    source: usize,
    input: u64,
    /// Records and skips so far: what is skipped counts too, so that it is told once.
    seen: u64,
    pass_over: u64,
    sink: &'a mut dyn TextSink,
}

impl Sink for Numbered<'_> {
    fn record(&mut self, record: Record) -> Flow {
        self.seen += 1;
        if self.seen <= self.pass_over {
            return Flow::Continue(());
        }
        let Record { text, kind, source: place, url, language, .. } = record;
        let text = match kind == kind::HTML {
            false => text,
            true => match main_text(&text) {
                Ok(text) => text,
                Err(reason) => return self.sink.skip(place, reason.replace('_', " ")),
            },
        };
        let (source, input, records) = (self.source, self.input, self.seen);
        self.sink.text(Text { text, source, place, url, language, kind, input, records })
    }

    fn skip(&mut self, place: String, reason: String) -> Flow {
        self.seen += 1;
        if self.seen <= self.pass_over { Flow::Continue(()) } else { self.sink.skip(place, reason) }
    }

    fn ignore(&mut self, _label: &str) {}
}

#[cfg(test)]
mod tests {
    use ledger::progress::Silent;

    use super::*;

    #[derive(Default)]
    struct Collected {
        texts: Vec<Text>,
        skips: Vec<String>,
        done: u64,
        /// Break after so many texts.
        most: Option<usize>,
    }

    impl TextSink for Collected {
        fn text(&mut self, text: Text) -> ControlFlow<()> {
            self.texts.push(text);
            match self.most == Some(self.texts.len()) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        fn skip(&mut self, place: String, reason: String) -> ControlFlow<()> {
            self.skips.push(format!("{place}: {reason}"));
            ControlFlow::Continue(())
        }
        fn inputs_done(&mut self, inputs: u64) -> ControlFlow<()> {
            self.done = inputs;
            ControlFlow::Continue(())
        }
    }

    fn place() -> (tempfile::TempDir, Vec<Source>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "a.jsonl",
            "{\"text\":\"one\",\"lang\":\"deu_Latn\"}\nnot json\n{\"text\":\"two\",\"language\":\"??\"}\n",
        );
        write("b.rs", "fn main() {}\n");
        write("c.txt", "three\n");
        write("picture.png", "");
        let path = |name: &str| Source::parse(folder.path().join(name).to_str().unwrap()).unwrap();
        let sources = vec![path("c.txt"), path("")];
        (folder, sources)
    }

    #[test]
    fn texts_come_with_their_source_and_language() {
        let (_folder, sources) = place();
        let texts = Texts::find(&sources, &Settings::default(), &[]).unwrap();
        let mut found = Collected::default();
        assert!(texts.read(0, 0, &Silent, &mut found).unwrap().is_continue());
        let facts: Vec<_> = found
            .texts
            .iter()
            .map(|text| {
                (text.text.as_str(), text.source, text.language.as_deref(), text.is_prose(), text.input)
            })
            .collect();
        assert_eq!(
            facts,
            [
                ("three\n", 0, None, true, 0),
                ("one", 1, Some("de"), true, 1),
                ("two", 1, None, true, 1),
                ("fn main() {}\n", 1, None, false, 2),
            ]
        );
        assert_eq!((found.done, texts.inputs()), (3, 3));
        assert!(
            found.skips.len() == 1 && found.skips[0].contains("a.jsonl:line 2: is not JSON"),
            "{:?}",
            found.skips
        );
        assert_eq!(texts.bytes(), texts.origins().iter().map(|origin| origin.bytes).sum::<u64>());
    }

    #[test]
    fn a_stream_goes_on_wherever_it_stopped() {
        let (_folder, sources) = place();
        let texts = Texts::find(&sources, &Settings::default(), &[]).unwrap();
        let mut whole = Collected::default();
        assert!(texts.read(0, 0, &Silent, &mut whole).unwrap().is_continue());
        for most in 1..=whole.texts.len() {
            let mut first = Collected { most: Some(most), ..Collected::default() };
            assert!(texts.read(0, 0, &Silent, &mut first).unwrap().is_break());
            let last = first.texts.last().unwrap();
            let mut rest = Collected::default();
            assert!(texts.read(last.input, last.records, &Silent, &mut rest).unwrap().is_continue());
            first.texts.extend(rest.texts);
            first.skips.extend(rest.skips);
            assert_eq!((first.texts, first.skips), (whole.texts.clone(), whole.skips.clone()));
        }
    }

    #[test]
    fn folders_that_are_left_out_are_not_read() {
        let (folder, sources) = place();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        std::fs::write(out.join("tokenizer.json"), "{}").unwrap();
        let find = |without: &[&Path]| Texts::find(&sources, &Settings::default(), without).unwrap();
        assert_eq!(find(&[]).inputs(), 4);
        let without = find(&[&folder.path().join("nowhere"), &out]);
        assert_eq!(without.inputs(), 3);
        assert!(without.origins().iter().all(|origin| !origin.path.ends_with("tokenizer.json")));
    }

    #[test]
    fn sources_without_files_are_named() {
        let (folder, _) = place();
        let picture = folder.path().join("*.png").to_str().unwrap().to_owned();
        let sources = [Source::Path("nowhere".into()), Source::Path(picture.replace("*.png", "*.gif"))];
        let error = Texts::find(&sources, &Settings::default(), &[]).err().unwrap().to_string();
        assert!(error.contains("nowhere") && error.contains("2 inputs skipped"), "{error}");
    }

    #[test]
    fn words_are_counted_in_scripts_without_spaces_too() {
        assert_eq!(count_words("two  words\n"), 2);
        assert_eq!(count_words("日本 a"), 3);
    }
}
