//! An object from its beginning to its end, read ahead by a thread. A request asks for a range; what breaks is gone on with
//! at the byte that was reached.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::patience::Failure;
use crate::{Error, Object};

/// Bytes of a piece, and the pieces that lie ready: 16 MiB, whatever the object.
const PIECE_BYTES: usize = 1 << 20;
const PIECES: usize = 16;

/// Reads an object. After an error there is nothing more; [`Stream::error`] tells which.
pub struct Stream {
    object: Object,
    /// None before the first byte is wanted, and after the end.
    pieces: Option<Receiver<Result<Vec<u8>, Error>>>,
    begun: bool,
    piece: Vec<u8>,
    at: usize,
    error: Option<Error>,
}

impl Stream {
    pub(crate) fn new(object: Object) -> Stream {
        Stream { object, pieces: None, begun: false, piece: Vec::new(), at: 0, error: None }
    }

    /// Why reading failed.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begun = true;
            let (sender, receiver) = sync_channel(PIECES);
            let object = self.object.clone();
            // It ends with the object, with an error, or when nobody wants what it sends.
            std::thread::Builder::new().name("object".into()).spawn(move || send(&object, &sender))?;
            self.pieces = Some(receiver);
        }
        while self.at == self.piece.len() {
            let next = self.pieces.as_ref().and_then(|pieces| pieces.recv().ok());
            match next {
                Some(Ok(piece)) => (self.piece, self.at) = (piece, 0),
                Some(Err(error)) => {
                    let failure = io::Error::other(error.clone());
                    (self.pieces, self.error) = (None, Some(error));
                    return Err(failure);
                }
                None => {
                    self.pieces = None;
                    return match &self.error {
                        Some(error) => Err(io::Error::other(error.clone())),
                        None => Ok(0),
                    };
                }
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Sends the object in pieces, or the error that ended it.
fn send(object: &Object, pieces: &SyncSender<Result<Vec<u8>, Error>>) {
    let bytes = object.bytes();
    let mut reached = 0;
    let mut wanted = true;
    while wanted && reached < bytes {
        let ended = object.manners().patiently(object.address(), bytes, |moved| {
            let end = bytes.min(reached + object.manners().request_bytes);
            let mut rest = Rest::of(object, reached, end)?;
            while wanted && let Some(piece) = rest.next(PIECE_BYTES)? {
                reached += piece.len() as u64;
                *moved = true;
                wanted = pieces.send(Ok(piece)).is_ok();
            }
            Ok(())
        });
        if let Err(error) = ended {
            // Whoever does not listen does not miss it.
            let _ = pieces.send(Err(error));
            return;
        }
    }
}

/// What is left of a request: the bytes from `at` to `end`, or to the object's end where the server sends all.
pub(crate) struct Rest {
    body: Box<dyn Read + Send>,
    at: u64,
    end: u64,
}

impl Rest {
    /// Asks, and passes over what was not asked for.
    pub fn of(object: &Object, at: u64, end: u64) -> Result<Rest, Failure> {
        let part = object.get(at..end)?;
        // A server without ranges sends everything: that is taken at once, or it would have to be sent again.
        let end = if part.whole { object.bytes() } else { end };
        let mut body = part.body;
        let before = at - part.begins.min(at);
        let passed = io::copy(&mut (&mut body).take(before), &mut io::sink())
            .map_err(|error| Failure::Passing(error.to_string()))?;
        if passed < before {
            return Err(Failure::Short { at: passed });
        }
        Ok(Rest { body, at, end })
    }

    /// The next bytes, as many as `most` where there are so many; none at the end.
    pub fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>, Failure> {
        let want = (self.end - self.at).min(most as u64);
        if want == 0 {
            return Ok(None);
        }
        let mut piece = Vec::with_capacity(want as usize);
        let result = (&mut self.body).take(want).read_to_end(&mut piece);
        self.at += piece.len() as u64;
        match result {
            // What came before a connection broke is kept.
            _ if !piece.is_empty() => Ok(Some(piece)),
            Ok(_) => Err(Failure::Short { at: self.at }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Failure::Short { at: self.at }),
            Err(error) => Err(Failure::Passing(error.to_string())),
        }
    }
}
