//! Edits of a text that stand in one another: what is put before and behind a part of it.

use std::ops::Range;

pub(crate) struct Edit {
    pub(crate) at: Range<usize>,
    pub(crate) before: String,
    pub(crate) behind: String,
}

/// The text with all of them made. Two may have the same part, or one a part of the other's; they may not overlap.
pub(crate) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.at.start, std::cmp::Reverse(edit.at.end)));
    let (mut edited, mut at) = (String::new(), 0);
    let mut open: Vec<&Edit> = Vec::new();
    for edit in &edits {
        close(&mut open, edit.at.start, text, &mut edited, &mut at);
        edited += &text[at..edit.at.start];
        at = edit.at.start;
        edited += &edit.before;
        open.push(edit);
    }
    close(&mut open, text.len(), text, &mut edited, &mut at);
    edited + &text[at..]
}

/// Ends those that end before `until` does.
fn close(open: &mut Vec<&Edit>, until: usize, text: &str, edited: &mut String, at: &mut usize) {
    while let Some(edit) = open.pop_if(|edit| edit.at.end <= until) {
        *edited += &text[*at..edit.at.end];
        *at = edit.at.end;
        *edited += &edit.behind;
    }
}
