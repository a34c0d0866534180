"""Images and labels, and the batches that training takes from them.

A data set's folder comes in, splits and batches go out. How a data set is fetched belongs in
`datasets`, batches from banks in `banks`.
"""
