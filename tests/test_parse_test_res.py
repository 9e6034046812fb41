"""CoOp's result parser on our logs and on those of the other code bases."""

from __future__ import annotations

import pytest

import parse_test_res

BLOCK = "=> result\n* total: 10\n* correct: 5\n* accuracy: {}%\n* error: 50.0%\n* macro_f1: 49.0%\n"


def write(folder, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "log.txt").write_text(text)


@pytest.mark.parametrize("end", ["Finish training", "Finished training"])
def test_the_last_result_behind_the_end_of_training_counts(tmp_path, capsys, end):
    for seed, value in ((1, 50.0), (2, 60.0)):
        write(tmp_path, f"seed{seed}", f"{BLOCK.format(10.0)}{end}\n{BLOCK.format(value)}Elapsed: 0:00:01\n")
    assert parse_test_res.main([str(tmp_path)]) == 0
    assert "* accuracy: 55.00% +- 5.00%" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path), "--ci95", "--keyword", "error"]) == 0
    assert "* error: 50.00% +- 0.00%" in capsys.readouterr().out


def test_a_run_that_did_not_end_is_named(tmp_path, capsys):
    write(tmp_path, "seed1", BLOCK.format(50.0))
    assert parse_test_res.main([str(tmp_path)]) == 1
    assert "seed1/log.txt has no accuracy" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path), "--test-log"]) == 0


def test_several_experiments_are_averaged(tmp_path, capsys):
    write(tmp_path, "one/seed1", BLOCK.format(50.0))
    write(tmp_path, "two/seed1", BLOCK.format(70.0))
    assert parse_test_res.main([str(tmp_path), "--multi-exp", "--test-log"]) == 0
    assert "over 2 experiments: 60.00%" in capsys.readouterr().out


def test_it_reads_what_a_run_here_logs(run_train, tmp_path, capsys):
    run = run_train(folder=tmp_path / "seeds" / "seed1")
    (run.folder / "log.txt").write_text(run.output)
    capsys.readouterr()
    assert parse_test_res.main([str(tmp_path / "seeds")]) == 0
    assert f"* accuracy: {run.result['accuracy']:.1f}" in capsys.readouterr().out
    assert parse_test_res.main([str(tmp_path / "nowhere")]) == 1
