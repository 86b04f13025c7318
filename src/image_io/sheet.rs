//! Contact sheets: several pictures in a grid.

use super::Picture;

const PAPER: [u8; 3] = [255, 255, 255];

/// Lays pictures out in rows of `columns`, `margin` pixels around each. Cells are as large as the largest picture.
///
/// # Panics
///
/// If `columns` is 0.
pub fn contact_sheet(pictures: &[Picture], columns: usize, margin: usize) -> Picture {
    assert!(columns > 0, "`columns` is at least 1");
    let largest = |side: fn(&Picture) -> usize| pictures.iter().map(side).max().unwrap_or(0);
    let cell = [largest(Picture::width), largest(Picture::height)];
    let columns = columns.min(pictures.len().max(1));
    let rows = pictures.len().div_ceil(columns);
    let side = |count: usize, cell: usize| count * (cell + margin) + margin;
    let mut sheet = Picture::filled(side(columns, cell[0]), side(rows, cell[1]), PAPER);
    for (index, picture) in pictures.iter().enumerate() {
        let left = margin + index % columns * (cell[0] + margin);
        let top = margin + index / columns * (cell[1] + margin);
        paste(&mut sheet, picture, left, top);
    }
    sheet
}

fn paste(sheet: &mut Picture, picture: &Picture, left: usize, top: usize) {
    let bytes = picture.width * 3;
    for (row, line) in picture.pixels.chunks_exact(bytes.max(1)).enumerate() {
        let start = ((top + row) * sheet.width + left) * 3;
        sheet.pixels[start..start + bytes].copy_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_rows_with_margins() {
        let pictures = [10, 20, 30].map(|grey| Picture::filled(2, 1, [grey; 3]));
        let sheet = contact_sheet(&pictures, 2, 1);
        assert_eq!((sheet.width(), sheet.height()), (7, 5));
        let red: Vec<u8> = sheet.pixels().iter().step_by(3).copied().collect();
        let white = [255; 7];
        assert_eq!(red[0..7], white);
        assert_eq!(red[7..14], [255, 10, 10, 255, 20, 20, 255]);
        assert_eq!(red[14..21], white);
        assert_eq!(red[21..28], [255, 30, 30, 255, 255, 255, 255]);
        assert_eq!(red[28..35], white);
    }
}
