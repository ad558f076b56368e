//! MovieLens-100K: who rated which film how, and when.

use super::package::{Client, Package};
use super::{Dataset, keep_files};
use crate::{Error, Result, files};
use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

pub(super) const DATASET: Dataset = Dataset {
    name: "movielens-100k",
    what_for: "recommendation: 100,000 ratings with time, 943 users, 1,682 films with title, year and genres",
    licence: "GroupLens (research, not to be passed on), MIT (package)",
    kept_bytes: 2_045_862,
    revision: 1,
    packages: &[Package {
        client: Client::Pip,
        name: "recbole",
        version: "1.2.1",
        bytes: 2_130_151,
        sha256: "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        options: &["--only-binary=:all:", "--python-version=3.11"],
        keep: &[
            ("recbole/dataset_example/ml-100k/ml-100k.inter", "ml-100k.inter"),
            ("recbole/dataset_example/ml-100k/ml-100k.item", "ml-100k.item"),
        ],
    }],
    build: keep_files,
};

/// One rating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rating {
    /// An index into [`Ratings::users`].
    pub user: u32,
    /// An index into [`Ratings::items`].
    pub item: u32,
    /// 1 to 5.
    pub rating: f32,
    /// In seconds since 1970.
    pub time: i64,
}

/// A film.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Film {
    /// Its id in the data.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The year of its release, when known.
    pub year: Option<u16>,
    /// Its genres.
    pub genres: Vec<String>,
}

/// Users, films and ratings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ratings {
    /// The users' ids, in order of their first rating.
    pub users: Vec<String>,
    /// The films, in the file's order.
    pub items: Vec<Film>,
    /// The ratings, in the file's order (which is not that of time).
    pub ratings: Vec<Rating>,
}

/// MovieLens-100K.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn movielens() -> Result<Ratings> {
    let folder = super::get(DATASET.name)?;
    read(&folder.join("ml-100k.item"), &folder.join("ml-100k.inter"))
}

/// The lines of a tab-separated file of RecBole as `N` fields, with their numbers; its first line must be `header`.
fn rows<const N: usize>(path: &Path, header: [&str; N], mut each: impl FnMut(u64, [&str; N]) -> Result<()>) -> Result<()> {
    for (i, line) in files::open(path)?.lines().enumerate() {
        let line = line.map_err(Error::io("read", path))?;
        let number = i as u64 + 1;
        let fields: [&str; N] = line
            .split('\t')
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|f: Vec<_>| Error::file(path, number, format!("has {} fields, should have {N}", f.len())))?;
        if i > 0 {
            each(number, fields)?;
        } else if fields != header {
            return Err(Error::file(path, 1, format!("should have the columns {}", header.join(", "))));
        }
    }
    Ok(())
}

fn read(items: &Path, ratings: &Path) -> Result<Ratings> {
    let mut out = Ratings::default();
    let mut item_of: HashMap<String, u32> = HashMap::new();
    rows(items, ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"], |line, [id, title, year, genres]| {
        if item_of.insert(id.to_owned(), out.items.len() as u32).is_some() {
            return Err(Error::file(items, line, format!("the film {id} is here twice")));
        }
        // One film is unknown, year and all.
        let genres = genres.split(' ').map(str::to_owned).collect();
        out.items.push(Film { id: id.to_owned(), title: title.to_owned(), year: year.parse().ok(), genres });
        Ok(())
    })?;
    let mut user_of: HashMap<String, u32> = HashMap::new();
    rows(ratings, ["user_id:token", "item_id:token", "rating:float", "timestamp:float"], |line, [user, item, rating, time]| {
        let error = |message: String| Error::file(ratings, line, message);
        let item = *item_of.get(item).ok_or_else(|| error(format!("there is no film {item}")))?;
        let rating: f32 =
            rating.parse().ok().filter(|r| (1.0..=5.0).contains(r)).ok_or_else(|| error(format!("{rating:?} is no rating from 1 to 5")))?;
        let time = time.parse().map_err(|e| error(format!("the time {time:?}: {e}")))?;
        let user = *user_of.entry(user.to_owned()).or_insert_with(|| {
            out.users.push(user.to_owned());
            out.users.len() as u32 - 1
        });
        out.ratings.push(Rating { user, item, rating, time });
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_find_their_films() {
        let folder = tempfile::tempdir().unwrap();
        let (items, ratings) = (folder.path().join("a.item"), folder.path().join("a.inter"));
        let read = |films: &str, lines: &str| {
            files::write(&items, format!("item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n{films}")).unwrap();
            files::write(&ratings, format!("user_id:token\titem_id:token\trating:float\ttimestamp:float\n{lines}")).unwrap();
            super::read(&items, &ratings).map_err(|e| e.to_string())
        };
        let films = "5\tToy Story\t1995\tAnimation Comedy\n9\tunknown\tunknown\tunknown\n";
        let all = read(films, "u2\t9\t3\t88\nu1\t5\t4.5\t77\nu2\t5\t1\t99\n").unwrap();
        assert_eq!(all.users, ["u2", "u1"]);
        assert_eq!((all.items[0].year, all.items[1].year, all.items[0].genres.len()), (Some(1995), None, 2));
        assert_eq!(all.ratings[1], Rating { user: 1, item: 0, rating: 4.5, time: 77 });

        assert!(read(films, "u\t7\t3\t88\n").unwrap_err().contains("a.inter:2: there is no film 7"));
        assert!(read(films, "u\t5\tNaN\t88\n").unwrap_err().contains("a.inter:2: \"NaN\" is no rating"));
        assert!(read(films, "u\t5\t3\n").unwrap_err().contains("a.inter:2: has 3 fields"));
        assert!(read(&films.repeat(2), "").unwrap_err().contains("a.item:4: the film 5 is here twice"));
    }
}
