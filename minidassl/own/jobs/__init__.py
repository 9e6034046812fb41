"""Jobs that take minutes and whose state is a folder: ordered, claimed, and run on the devices of one or many hosts.

`schedule` says which job is next, `claims` that nobody else has it, `attempt` runs one, and an engine (`local`,
`on_ray`) says where. `drive` puts them together, `flags` reads them off a command line, and `plans` tells other
processes what is going on. Needs Python's standard library, tqdm and psutil; `on_ray` needs Ray.
"""
