"""Copies the jars of jars.txt into a directory, where there is no Maven. What it has copied is checked by the caller."""

import pathlib
import shutil
import sys

from jgo.maven import MavenContext

listed, cache, into = map(pathlib.Path, sys.argv[1:])
into.mkdir(parents=True)
maven = MavenContext(repo_cache=cache)
for line in listed.read_text().splitlines():
    group, artifact, version, *classifier = line.split(":")
    component = maven.project(group, artifact).at_version(version)
    shutil.copy(component.artifact(*classifier, packaging="jar").resolve(), into)
