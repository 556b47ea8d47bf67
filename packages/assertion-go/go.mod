module portcullis/assertion

go 1.19
