"""Parquet: a column per number or lists of numbers, read a few thousand rows at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from adabc_lightning.data.formats.source import Reading, Source, row_place
from adabc_lightning.data.formats.tables import Column, coded, episode_code, moment, table_source
from adabc_lightning.data.names import SCALARS
from adabc_lightning.errors import UserError, one_line
from adabc_lightning.run import limits

_BUFFER = 1 << 20  # bytes of a column chunk that are read at once


def open_parquet(path: Path, reading: Reading, stack: ExitStack) -> Source:
    """A log in a Parquet file.

    Args:
        path: the file.
        reading: what the user knows.
        stack: closes the file when the log has been read.
    Raises: UserError: it is damaged, claims more than it can hold, or is no log.
    """
    where = str(path)
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(
            f"{where}: Parquet needs pyarrow: pip install 'adabc_lightning[tables]'"
        ) from error
    try:
        options: dict[str, Any] = {"buffer_size": _BUFFER, "pre_buffer": False}
        file = stack.enter_context(parquet.ParquetFile(path, **options))
        schema, metadata = file.schema_arrow, file.metadata
        _check_claims(metadata, path.stat().st_size, where)
        lists = [field.name for field in schema if _is_list(field.type)]
        first = None
        if metadata.num_rows and lists:
            first = next(file.iter_batches(1, row_groups=[0], columns=lists), None)
        texts = [field.name for field in schema if _is_text(field.type)]
        # A text is stored once and may stand in every row: it is not to be copied into each.
        options |= {"metadata": metadata, "read_dictionary": texts}
        file = stack.enter_context(parquet.ParquetFile(path, **options))
    except (ArrowException, OSError) as error:
        raise UserError(_unreadable(where, error)) from error
    columns = {}
    for field in schema:
        place = -1 if first is None else first.schema.get_field_index(field.name)
        columns[field.name] = _column(field, first.column(place) if first and place >= 0 else None)

    def read(names: Sequence[str], most: int) -> Iterator[dict[str, np.ndarray]]:
        start = 0
        for name in names:
            if not columns[name].numeric and name not in texts:
                raise UserError(
                    f"{where}: column {one_line(name)} must be a number or a text, but is "
                    f"{columns[name].kind}"
                )
        try:
            for batch in file.iter_batches(most, columns=list(names), use_threads=False):
                found = {}
                for name in names:
                    values = batch.column(batch.schema.get_field_index(name))
                    if columns[name].numeric:
                        found[name] = _array(where, name, columns[name].width, values, start)
                    else:
                        found[name] = _ids(where, name, values, start)
                start += batch.num_rows
                yield found
        except (ArrowException, OSError) as error:
            raise UserError(_unreadable(where, error)) from error

    source = table_source(where, columns, schema.names, read, reading, metadata.num_rows)
    source.stored = path.stat().st_size
    return source


def _check_claims(metadata: Any, stored: int, where: str) -> None:
    """Refuses more than the file can hold: pages as they are unpacked, and numbers in all.

    Runs of one value take next to nothing, also those inside of lists, so numbers are counted.
    """
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    numbers = sum(
        group.column(index).num_values for group in groups for index in range(group.num_columns)
    )
    unpacked = sum(group.total_byte_size for group in groups)
    claimed = max(4 * numbers, 4 * metadata.num_rows, unpacked)
    if claimed > limits.SMALL:  # what is sparse may take next to nothing
        limits.check_bytes(claimed, stored, where)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _unreadable(where: str, error: Exception) -> str:
    return f"{where} is no readable Parquet file: {' '.join(str(error).split())}"


def _column(field: Any, first: Any) -> Column:
    from pyarrow import types

    kind, width = field.type, 0
    if types.is_fixed_size_list(kind):
        width, kind = kind.list_size, kind.value_type
    elif _is_list(kind):
        value = first[0] if first is not None and len(first) else None
        width = len(value) if value is not None and value.is_valid else 0
        kind = kind.value_type
        if not width:
            return Column(0, False, f"{field.type}, empty in the first row")
    if types.is_temporal(kind) and not width:
        return Column(0, True, str(kind))
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return Column(width, numeric, one_line(str(field.type)))


def _array(where: str, name: str, width: int, values: Any, start: int) -> np.ndarray:
    """``[n]`` or ``[n, width]``; what is missing is NaN, and refused where it is checked."""
    if width:
        from pyarrow import compute

        lengths = compute.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != width)
        if len(wrong):
            row = int(wrong[0])
            raise UserError(
                f"{where}: column {one_line(name)} has {width} numbers in the first row, but "
                f"{int(lengths[row])} in {row_place(start + row)}"
            )
        values = values.flatten()
    from pyarrow import types

    if types.is_temporal(values.type):
        array = values.cast("int64" if values.type.bit_width == 64 else "int32")
        values = array.cast("float64", safe=False)
    array = values.to_numpy(zero_copy_only=False)
    if array.dtype == object:  # bool with missing values
        array = np.array([np.nan if value is None else value for value in array], np.float64)
    return array.reshape(-1, width) if width else array


def _ids(where: str, name: str, values: Any, start: int) -> np.ndarray:
    """Texts as numbers, the same for the same text; each text of the dictionary once."""
    if values.null_count:
        row = int(np.argmax(~values.is_valid().to_numpy(zero_copy_only=False)))
        raise UserError(
            f"{where}: column {one_line(name)} has no value in {row_place(start + row)}"
        )
    used, first_U, which = np.unique(
        values.indices.to_numpy(zero_copy_only=False), return_index=True, return_inverse=True
    )
    code = moment if name.lower() in SCALARS["time"] else episode_code
    code_U = coded(
        f"{where}: column {one_line(name)}",
        code,
        values.dictionary.take(used).to_pylist(),
        lambda i: row_place(start + int(first_U[i])),
    )
    return code_U[which]
