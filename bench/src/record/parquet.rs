//! Result files: a row for each interval, the run's description in the file's own metadata.
//!
//! Always true: a file that was closed reads back as the rows that were written; memory holds one row
//! group at the most. The low-level writer of the `parquet` crate is used: the columns are plain numbers
//! and two lists for each histogram, for which no table library is needed. Called by the recorder
//! (writing), `view` and `compare` (reading).
//!
//! ```text
//! Cell::Int → INT64   Real → DOUBLE   Text → STRING   Buckets → NAME/index REPEATED INT32, NAME/count REPEATED INT64
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Field, ListAccessor};
use parquet::schema::types::{Type, TypePtr};

use super::row::{Cell, Row};

/// Rows of the first row groups: a minute of one-second intervals.
const GROUP_ROWS: usize = 60;
/// Groups of one size before the next are twice as large: what the file's end has to know of each group stays
/// in memory, some 80 KiB, so a long run must not have one for each minute.
const GROUPS_OF_A_SIZE: usize = 8;
/// Most doublings: 1920 rows, half an hour of one-second intervals and some megabytes of histograms.
const GROUP_DOUBLINGS_MAX: usize = 5;
/// The version of the columns' meaning.
const FORMAT: &str = "1";
const INDEX: &str = "/index";
const COUNT: &str = "/count";

/// Why a result file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultFileError {
    /// The file itself.
    #[error("{path}: {error}")]
    File {
        /// As given.
        path: PathBuf,
        /// From the system.
        error: std::io::Error,
    },
    /// Its content.
    #[error("{path}: {error}")]
    Content {
        /// As given.
        path: PathBuf,
        /// From the library.
        error: ParquetError,
    },
    /// It is Parquet, but not of this tool.
    #[error("{path}: no results of crucible-benchmark (the metadata has no `crucible.format`)")]
    Foreign {
        /// As given.
        path: PathBuf,
    },
    /// It has no intervals.
    #[error("{path}: holds no intervals")]
    Empty {
        /// As given.
        path: PathBuf,
    },
}

/// A file being written.
pub struct ResultWriter {
    path: PathBuf,
    file: Option<File>,
    writer: Option<SerializedFileWriter<File>>,
    rows: Vec<Row>,
    groups: usize,
}

/// Rows of the group that follows so many.
fn group_rows(groups: usize) -> usize {
    GROUP_ROWS << (groups / GROUPS_OF_A_SIZE).min(GROUP_DOUBLINGS_MAX)
}

fn schema(row: &Row) -> Result<TypePtr, ParquetError> {
    let column = |name: &str, physical, repetition, logical| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let mut fields = Vec::new();
    for (name, cell) in row.cells() {
        match cell {
            Cell::Int(_) => fields.push(column(name, Physical::INT64, Repetition::REQUIRED, None)?),
            Cell::Real(_) => {
                fields.push(column(name, Physical::DOUBLE, Repetition::REQUIRED, None)?)
            }
            Cell::Text(_) => fields.push(column(
                name,
                Physical::BYTE_ARRAY,
                Repetition::REQUIRED,
                Some(LogicalType::String),
            )?),
            Cell::Buckets(_) => {
                fields.push(column(
                    &format!("{name}{INDEX}"),
                    Physical::INT32,
                    Repetition::REPEATED,
                    None,
                )?);
                fields.push(column(
                    &format!("{name}{COUNT}"),
                    Physical::INT64,
                    Repetition::REPEATED,
                    None,
                )?);
            }
        }
    }
    Type::group_type_builder("interval").with_fields(fields).build().map(Arc::new)
}

impl ResultWriter {
    /// Creates the file, so that a path that cannot be written is known before the run.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self, ResultFileError> {
        let file = File::create(path)
            .map_err(|error| ResultFileError::File { path: path.into(), error })?;
        Ok(Self { path: path.into(), file: Some(file), writer: None, rows: Vec::new(), groups: 0 })
    }

    /// Takes a row; a group of them goes to the file at one go.
    ///
    /// # Errors
    /// When writing fails.
    pub fn push(&mut self, row: Row) -> Result<(), ResultFileError> {
        self.rows.push(row);
        if self.rows.len() >= group_rows(self.groups) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ResultFileError> {
        let rows = std::mem::take(&mut self.rows);
        self.groups += 1;
        self.write_group(&rows)
            .map_err(|error| ResultFileError::Content { path: self.path.clone(), error })
    }

    fn write_group(&mut self, rows: &[Row]) -> Result<(), ParquetError> {
        let Some(first) = rows.first() else { return Ok(()) };
        if let Some(file) = self.file.take() {
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                // Nobody skips rows of a result by a column's bounds.
                .set_statistics_enabled(EnabledStatistics::None)
                .build();
            self.writer =
                Some(SerializedFileWriter::new(file, schema(first)?, Arc::new(properties))?);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut group = writer.next_row_group()?;
        for (at, (name, cell)) in first.cells().enumerate() {
            let column: Vec<&Cell> = rows.iter().map(|row| nth(row, at, name)).collect();
            match cell {
                Cell::Int(_) => {
                    let values: Vec<i64> =
                        column.iter().map(|c| if let Cell::Int(n) = c { *n } else { 0 }).collect();
                    let mut out = group.next_column()?.ok_or_else(short)?;
                    out.typed::<Int64Type>().write_batch(&values, None, None)?;
                    out.close()?;
                }
                Cell::Real(_) => {
                    let values: Vec<f64> = column
                        .iter()
                        .map(|c| if let Cell::Real(x) = c { *x } else { 0.0 })
                        .collect();
                    let mut out = group.next_column()?.ok_or_else(short)?;
                    out.typed::<DoubleType>().write_batch(&values, None, None)?;
                    out.close()?;
                }
                Cell::Text(_) => {
                    let values: Vec<ByteArray> = column
                        .iter()
                        .map(|c| if let Cell::Text(t) = c { t.as_str().into() } else { "".into() })
                        .collect();
                    let mut out = group.next_column()?.ok_or_else(short)?;
                    out.typed::<ByteArrayType>().write_batch(&values, None, None)?;
                    out.close()?;
                }
                Cell::Buckets(_) => {
                    let (mut indexes, mut counts) = (Vec::new(), Vec::new());
                    let (mut definition, mut repetition) = (Vec::<i16>::new(), Vec::<i16>::new());
                    for cell in column {
                        let Cell::Buckets(pairs) = cell else { continue };
                        if pairs.is_empty() {
                            definition.push(0);
                            repetition.push(0);
                        }
                        for (n, (index, count)) in pairs.iter().enumerate() {
                            indexes.push(*index as i32);
                            counts.push(*count as i64);
                            definition.push(1);
                            repetition.push(i16::from(n > 0));
                        }
                    }
                    let mut out = group.next_column()?.ok_or_else(short)?;
                    out.typed::<Int32Type>().write_batch(
                        &indexes,
                        Some(&definition),
                        Some(&repetition),
                    )?;
                    out.close()?;
                    let mut out = group.next_column()?.ok_or_else(short)?;
                    out.typed::<Int64Type>().write_batch(
                        &counts,
                        Some(&definition),
                        Some(&repetition),
                    )?;
                    out.close()?;
                }
            }
        }
        group.close()?;
        Ok(())
    }

    /// Writes what is left and the description, and closes the file.
    ///
    /// # Errors
    /// When writing fails, or no row was ever pushed.
    pub fn close(mut self, description: &[(String, String)]) -> Result<(), ResultFileError> {
        self.flush()?;
        let Some(mut writer) = self.writer.take() else {
            return Err(ResultFileError::Empty { path: self.path });
        };
        writer.append_key_value_metadata(KeyValue::new(
            "crucible.format".to_owned(),
            FORMAT.to_owned(),
        ));
        for (key, value) in description {
            writer
                .append_key_value_metadata(KeyValue::new(format!("crucible.{key}"), value.clone()));
        }
        writer
            .close()
            .map(drop)
            .map_err(|error| ResultFileError::Content { path: self.path, error })
    }
}

fn short() -> ParquetError {
    ParquetError::General("the schema has fewer columns than the row has cells".into())
}

fn nth<'a>(row: &'a Row, at: usize, name: &str) -> &'a Cell {
    let (found, cell) = row.cells().nth(at).expect("all rows of a run have the same cells");
    debug_assert_eq!(found, name);
    cell
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Results {
    /// Where from.
    pub path: PathBuf,
    /// The description: config, machine, verdict.
    pub description: BTreeMap<String, String>,
    /// Its intervals.
    pub rows: Vec<Row>,
}

/// Reads a result file.
///
/// # Errors
/// See [`ResultFileError`].
pub fn read(path: &Path) -> Result<Results, ResultFileError> {
    let file =
        File::open(path).map_err(|error| ResultFileError::File { path: path.into(), error })?;
    let content = |error| ResultFileError::Content { path: path.into(), error };
    let reader = SerializedFileReader::new(file).map_err(content)?;
    let mut description = BTreeMap::new();
    for pair in reader.metadata().file_metadata().key_value_metadata().into_iter().flatten() {
        if let (Some(key), Some(value)) = (pair.key.strip_prefix("crucible."), &pair.value) {
            description.insert(key.to_owned(), value.clone());
        }
    }
    if !description.contains_key("format") {
        return Err(ResultFileError::Foreign { path: path.into() });
    }
    let mut rows = Vec::new();
    for record in reader.get_row_iter(None).map_err(content)? {
        let record = record.map_err(content)?;
        let mut row = Row::default();
        let mut index: Option<(&str, Vec<u32>)> = None;
        for (name, field) in record.get_column_iter() {
            match field {
                Field::Long(n) => row.push(name.as_str(), Cell::Int(*n)),
                Field::Double(x) => row.push(name.as_str(), Cell::Real(*x)),
                Field::Str(text) => row.push(name.as_str(), Cell::Text(text.clone())),
                Field::ListInternal(list) => {
                    if let Some(name) = name.strip_suffix(INDEX) {
                        let all = (0..list.len()).map(|i| list.get_int(i).map(|n| n as u32));
                        index = Some((name, all.collect::<Result<_, _>>().map_err(content)?));
                    } else if let Some((name, indexes)) = index.take() {
                        let counts = (0..list.len()).map(|i| list.get_long(i).map(|n| n as u64));
                        let counts: Vec<u64> = counts.collect::<Result<_, _>>().map_err(content)?;
                        row.push(name, Cell::Buckets(indexes.into_iter().zip(counts).collect()));
                    }
                }
                _ => {}
            }
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(ResultFileError::Empty { path: path.into() });
    }
    Ok(Results { path: path.into(), description, rows })
}

#[cfg(test)]
mod tests {
    use super::super::row::{
        row,
        tests::{interval, names},
    };
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same_over_several_row_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.parquet");
        let mut writer = ResultWriter::create(&path).unwrap();
        // Some intervals are empty: their lists are, too.
        let rows: Vec<Row> = (0..130)
            .map(|n| row(&interval(n, if n % 7 == 0 { 0 } else { n }, 1000 + n), &names(), &[0], 5))
            .collect();
        rows.iter().for_each(|r| writer.push(r.clone()).unwrap());
        writer.close(&[("protocol".into(), "resp".into())]).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read.description["protocol"], "resp");
        assert_eq!(read.rows.len(), rows.len());
        assert_eq!(read.rows, rows);
    }

    #[test]
    fn a_day_of_intervals_takes_few_groups() {
        let (mut rows, mut groups) = (0, 0);
        while rows < 86_400 {
            rows += group_rows(groups);
            groups += 1;
        }
        assert!(groups < 100, "{groups}");
    }

    #[test]
    fn what_is_no_result_file_is_refused_in_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.parquet");
        assert!(read(&path).unwrap_err().to_string().contains("r.parquet"));
        std::fs::write(&path, b"PAR1 but not really").unwrap();
        assert!(matches!(read(&path), Err(ResultFileError::Content { .. })));
        let writer = ResultWriter::create(&path).unwrap();
        assert!(matches!(writer.close(&[]), Err(ResultFileError::Empty { .. })));
        assert!(matches!(
            ResultWriter::create(&dir.path().join("no/such")),
            Err(ResultFileError::File { .. })
        ));
    }
}
