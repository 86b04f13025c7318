//! Pictures, or films.

use crate::image_io::Picture;

/// What a run makes.
#[derive(Debug, Clone)]
pub enum Output {
    /// One picture an item.
    Pictures(Vec<Picture>),
    /// One film an item, each its frames in their order.
    Frames(Vec<Vec<Picture>>),
}

impl Output {
    /// Of `pictures`, items one after the other, each of `frames`; 1 makes pictures of them.
    pub fn of(pictures: Vec<Picture>, frames: usize) -> Self {
        if frames < 2 {
            return Self::Pictures(pictures);
        }
        let films = pictures.chunks(frames);
        Self::Frames(films.map(<[Picture]>::to_vec).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_film_stand_together() {
        let picture = |shade| Picture::filled(1, 1, [shade; 3]);
        let pictures: Vec<_> = (0..6).map(picture).collect();
        let Output::Frames(films) = Output::of(pictures.clone(), 3) else {
            panic!("three frames are a film");
        };
        let lengths: Vec<_> = films.iter().map(Vec::len).collect();
        assert_eq!((lengths, &films[1][0]), (vec![3, 3], &pictures[3]));
        assert!(matches!(Output::of(pictures, 1), Output::Pictures(made) if made.len() == 6));
    }
}
