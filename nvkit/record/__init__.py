"""A run folder as an audit record: what is captured, how it is sealed and verified, and what is made from it.

Import from the modules; importing this package loads none of them:

    capture      what every run leaves behind of machine, packages, code and artefacts
    redact       names and paths of the machine, replaced before sealing
    seal, keys   provenance.json over every file, and signatures over it
    verify       every claim of a record checked again, offline
    export       one HTML file, one zip
"""
