"""Models and data from where the command line names them: files, folders, functions. Needs torch.

`model.load_model` and `data.load_data` are the two ways in. Data is data alone, never a pickle; a `.pt2` file and
`module:function` are code, and trusted as such.
"""
